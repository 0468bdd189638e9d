"""One pipeline under load while faults fall on it; then the books, the paths, and what no book holds.

Faults of one victim come one after the other, each as soon as it is due and the one before it is over; those of
different victims meet, and what they do to each other is the point of it.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from urllib.parse import urlsplit

from audit.readers.evidence import Evidence as Testimonies
from audit.readers.http_history import read_history
from audit.readers.snapshots import StockSampler
from audit.readers.written import read_written
from audit.rules.judge import Judgement
from audit.testimony import Kind, Request
from audit.whole import Auditor
from chaos import lives, paths
from chaos.faults import FAULTS, QUICK, Evidence, Field, Hurts, Pace
from chaos.faults.repairs import RECOUNT
from chaos.faults.topic import have_marked_orders_refused
from chaos.lives import STOP_SECONDS_MAX, Course
from chaos.load import DirectLoad, HttpLoad, Mix
from chaos.run.pipeline import FAST, Kept, Lane, VoidRunError
from chaos.run.plan import Action, read_evidence
from chaos.run.servers import Ground
from chaos.schedule import Planned
from chaos.turns import Turns
from chaos.wire.proxy import KafkaProxy, PostgresProxy
from common.kafka.schema_registry import open_codec
from common.topics import ORDERS_CREATED
from onceloop.errors import ReportedError

PARTITIONS = 8
CAME_THROUGH_SECONDS_MAX = 60.0
MINUTES_SECONDS_MAX = 120.0
"""The last minute goes on for one at most, and some orders are placed ahead of time."""
HTTP_RATE = 40.0
HTTP_SHARE_MAX = 0.25
TAIL_RATE = 150.0
RECORDS_PER_ORDER_MAX = 1.2
WEB_TIMES_MAX = 10
"""Requests go on as long as faults do, for so many times the length of the load at most."""
HTTP_PATIENCE_SECONDS = 15.0
HTTP_ANSWER_SECONDS = 5.0
POISON = 0.002
HOT_UNITS = 2_000
HOT_SKU, LOCKED_SKU, RESTOCKED_SKU = 0, 1, 2
"""By rank: the most wanted one is scarce, the row of the next one gets locked, the third one's stock is changed."""
READ_AHEAD_SECONDS = 10.0
WORKER_OPTIONS = {
    "PIPELINE_KAFKA_CONSUMER_OPTIONS": FAST["PIPELINE_KAFKA_CONSUMER_OPTIONS"].replace("10000", "6000"),
    "PIPELINE_BATCH_RECORDS_MAX": "100",
}
"""A batch may take 6 s, and a backlog takes many."""
Spared = frozenset[tuple[str, int]]
_ENDED_BY_ARM = frozenset({Action.KILL, Action.RAISE, Action.EXIT})


@contextmanager
def open_battle(
    ground: Ground, name: str, *, seed: int, spared: Spared = frozenset(), pace: Pace = QUICK
) -> Iterator["Battle"]:
    """Open a pipeline of two workers and all that goes with them, ready; `spared`: processes that no fault ends."""
    with ExitStack() as opened:
        site = opened.enter_context(ground.site(name, partitions=PARTITIONS))
        lane = opened.enter_context(Lane(site))
        for file in ("history.jsonl", "written.jsonl", "planted.jsonl", "stock.jsonl"):
            (site.folder / file).touch()
        shelves = Mix(seed=seed).shelves()
        skus = list(shelves)
        lane.set_stock({**shelves, skus[HOT_SKU]: HOT_UNITS})
        have_marked_orders_refused(site)
        database = urlsplit(site.environment("inventory_rw")["PIPELINE_POSTGRES_URL"])
        kafka = opened.enter_context(KafkaProxy(site.settings.kafka_bootstrap))
        postgres = opened.enter_context(PostgresProxy((database.hostname or "", database.port or 0)))
        role = database.username
        behind = {
            "PIPELINE_KAFKA_BOOTSTRAP": kafka.address,
            "PIPELINE_POSTGRES_URL": database._replace(netloc=f"{role}@{postgres.address}").geturl(),
        }
        for service in ("order-api", "order-projection", "notification", "metrics", "metrics-totals"):
            lane.start(service)
        lane.start("inventory", 0, **WORKER_OPTIONS, **behind)
        apart = {"CHAOS_PLAN": str(site.folder / "no-plan.json")} if ("inventory", 1) in spared else {}
        lane.start("inventory", 1, **WORKER_OPTIONS, **apart)
        auditor = opened.enter_context(Auditor(site.settings))
        opened.enter_context(StockSampler(site.settings, site.folder / "stock.jsonl"))
        lane.wait_opened()
        second = opened.enter_context(ground.second_broker())  # now: what brokers keep for themselves is on the first
        beside = opened.enter_context(KafkaProxy(second.address))
        kafka.stand_beside(beside)
        beside.stand_beside(kafka)
        yield Battle(
            Field(
                ground=ground,
                second=second,
                lane=lane,
                kafka=kafka,
                beside=beside,
                postgres=postgres,
                codec=open_codec(site.settings, (ORDERS_CREATED,)),
                spared=spared,
                hot_sku=skus[LOCKED_SKU],
                restocked_sku=skus[RESTOCKED_SKU],
                worker_options=WORKER_OPTIONS,
                read_ahead=partial(auditor.read_ahead, seconds=READ_AHEAD_SECONDS),
                recounting=auditor.recounting,
                pace=pace,
            ),
            auditor,
            seed=seed,
        )


class Battle:
    """Fight once, judge, end."""

    def __init__(self, ground: Field, auditor: Auditor, *, seed: int) -> None:
        self.field = ground
        self.course = Course()
        self._auditor = auditor
        self._seed = seed
        self._turns = Turns()
        self._folder = ground.lane.site.folder
        self._began = 0.0
        self._failures: list[BaseException] = []

    def fight(
        self, plan: Sequence[Planned], *, seconds: float, orders: int, report: Callable[[str], None]
    ) -> dict[str, int]:
        """Let the load run and the faults fall until both are over; return what the requests ended with."""
        self._began = time.monotonic()
        self.field.recount_ahead = any(planned.kind == RECOUNT for planned in plan)
        http_orders = round(min(HTTP_RATE * seconds, HTTP_SHARE_MAX * orders))
        mix = Mix(
            seed=self._seed,
            http_orders=WEB_TIMES_MAX * http_orders,
            http_rate=http_orders / seconds,
            direct_orders=orders - http_orders,
            direct_rate=(orders - http_orders) / seconds,
            poison=POISON,
        )
        site = self.field.lane.site
        web = HttpLoad(
            f"http://127.0.0.1:{self.field.lane.kept('order-api').port}",
            self._folder / "history.jsonl",
            patience_seconds=HTTP_PATIENCE_SECONDS,
            answer_seconds=HTTP_ANSWER_SECONDS,
        )
        told: Counter[str] = Counter()
        lock = threading.Lock()

        def place() -> None:
            tally = web.run(mix)
            with lock:
                told.update(http=tally.orders, ok=tally.ok, fail=tally.fail, info=tally.info)

        direct = DirectLoad(site.settings, self._folder / "written.jsonl")

        def write() -> None:
            tally = direct.run(mix)
            with lock:
                told.update(direct=tally.orders, written=tally.ok, unsure=tally.info)

        web_load, direct_load = self._thread("http-load", place), self._thread("direct-load", write)
        attacks = [
            self._thread(f"attack-{hurts}", partial(self._attack, mine, report))
            for hurts in Hurts
            if (mine := [each for each in plan if FAULTS[each.kind].hurts is hurts])
        ]
        try:
            self._join(direct_load, web_load, attacks, seconds=seconds, orders=orders, web=web, told=told)
        finally:
            web.stop.set()  # also when a signal ends the run: nobody goes on at servers that are gone
            direct.stop.set()
        if self._failures:
            raise self._failures[0]
        self._count_faults_of_the_load(mix)
        return dict(told)

    def judge(self, *, report: Callable[[str], None], minutes: bool = False) -> tuple[Judgement, list[str]]:
        """Wait until all is well and through, ask every rule, end every process in order; return complaints too.

        `minutes`: also wait until the last minute is over, and ask for the total of each.
        """
        lane = self.field.lane
        for proxy in (self.field.kafka, self.field.beside, self.field.postgres):
            proxy.heal()
        lane.wait_ready(seconds=CAME_THROUGH_SECONDS_MAX)
        report("healed; waiting until everything came through")
        quiet_since = time.monotonic()
        judgement = self._auditor.audit(
            wait_seconds=CAME_THROUGH_SECONDS_MAX, restocked=False, evidence=self._evidence(reread=not minutes)
        )
        if minutes and judgement.sound:
            report("waiting until the last minute is over")
            judgement = self._auditor.audit(
                wait_seconds=MINUTES_SECONDS_MAX,
                minutes=True,
                restocked=False,
                evidence=self._evidence(reread=True),
            )
        complaints = [*self._complaints(quiet_since=quiet_since), *self._end_in_order()]
        return judgement, complaints

    def paths(self, judgement: Judgement) -> dict[str, int]:
        """Return the recovery paths that the workers took."""
        return paths.taken(sorted(self._folder.glob("inventory-*.log")), replays=judgement.counts["replays"])

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                body()
            except BaseException as error:  # noqa: BLE001 - raised by whoever joins
                self._failures.append(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _join(
        self,
        direct_load: threading.Thread,
        web_load: threading.Thread,
        attacks: Sequence[threading.Thread],
        *,
        seconds: float,
        orders: int,
        web: HttpLoad,
        told: Counter[str],
    ) -> None:
        """Wait; once the load proper is over, go on with a little more for faults that still need orders to meet."""
        direct_load.join()
        if (left := self._began + seconds + 1 - time.monotonic()) > 0:
            web.stop.wait(left)
        more = DirectLoad(self.field.lane.site.settings, self._folder / "written.jsonl")
        tail = Mix(seed=self._seed + 1, direct_orders=1_000_000, direct_rate=TAIL_RATE, poison=POISON)
        running = self._thread("tail-load", lambda: told.update(tail=more.run(tail).orders))

        def enough() -> bool:
            return told["direct"] + (web.done + more.done) / RECORDS_PER_ORDER_MAX >= orders

        while running.is_alive() and not (enough() and not any(thread.is_alive() for thread in attacks)):
            time.sleep(0.1)
        more.stop.set()
        web.stop.set()
        running.join()
        web_load.join()

    def _attack(self, mine: Sequence[Planned], report: Callable[[str], None]) -> None:
        """Do the faults of one victim."""
        for planned in mine:
            if (early := self._began + planned.at - time.monotonic()) > 0:
                time.sleep(early)
            with self._turns.turn(alone=FAULTS[planned.kind].alone):
                self._act(planned, report)

    def _act(self, planned: Planned, report: Callable[[str], None]) -> None:
        fault, begun = FAULTS[planned.kind], time.monotonic()
        at = round(begun - self._began, 2)
        try:
            seen = fault.act(self.field, random.Random(planned.dice))  # noqa: S311 - repeatable on purpose
        except (VoidRunError, ReportedError) as error:
            self.course.voids.append(f"{planned.kind} at {at:.1f} s: {error.message}")
            report(f"{at:6.1f} s  {planned.kind}: void: {error.message}")
        else:
            self.course.faults.append({"at": at, "kind": planned.kind, "planned": planned.at, **seen})
            report(f"{at:6.1f} s  {planned.kind}: {', '.join(f'{name} {value}' for name, value in seen.items())}")
        finally:
            self.course.active.append((fault.hurts, begun, time.monotonic()))

    def _count_faults_of_the_load(self, mix: Mix) -> None:
        """Name what the load itself does wrong on purpose, as faults with their number."""
        written = read_written([self._folder / "written.jsonl"])
        copies = Counter(each.what for each in written if each.kind is Kind.COPY and each.at is not None)
        at_once = _at_once(read_history([self._folder / "history.jsonl"]))
        evidence: dict[str, Evidence] = {
            "duplicates": dict(copies),
            "late and early orders": {"share": mix.late} if written else {},
            "same key at once": {"pairs": at_once} if at_once else {},
        }
        self.course.faults += [{"at": 0.0, "kind": kind, **seen} for kind, seen in evidence.items() if seen]

    def _evidence(self, *, reread: bool) -> Testimonies:
        return Testimonies(
            history=self._folder / "history.jsonl",
            written=[self._folder / "written.jsonl", self.field.planted],
            snapshots=self._folder / "stock.jsonl",
            logs=sorted(self._folder.glob("*.log")),
            secrets=self.field.lane.site.secrets,
            reread=reread,
            heads=self.field.lane.site.heads,
            restocked=(self.field.restocked_sku,),
            grown=self.field.grown,
        )

    def _complaints(self, *, quiet_since: float) -> list[str]:
        everyone = [*self.field.lane.processes(), *self.field.others]
        ended = self.field.killed | {
            fired.pid for fired in read_evidence(self.field.lane.evidence) if fired.action in _ENDED_BY_ARM
        }
        return [
            *self.field.complaints,
            *lives.unasked_ends(everyone, ended_by_faults=ended),
            *lives.slow_starts(everyone, self.course),
            *lives.bad_stops(self.field.stops, self.course, ended_by_faults=ended),
            *lives.ends_at_rest(self.field.lane.processes(), since=quiet_since),
        ]

    def _end_in_order(self) -> list[str]:
        found: list[str] = []
        lane = self.field.lane

        def end(kept: Kept) -> None:
            began = time.monotonic()
            code = lane.end(kept)
            if (seconds := time.monotonic() - began) > STOP_SECONDS_MAX or code != 0:
                found.append(f"L4: {kept.name} {kept.slot} took {seconds:.1f} s to stop at rest, exit code {code}")

        ends = [threading.Thread(target=end, args=(kept,), daemon=True) for kept in lane.processes()]
        for thread in ends:
            thread.start()
        for thread in ends:
            thread.join()
        return found


def _at_once(requests: Sequence[Request]) -> int:
    """Return how many requests began while another one under the same key was under way."""
    busy: dict[tuple[str, str], float] = {}
    found = 0
    for request in requests:
        if request.key is not None:
            holder = (request.user, request.key)
            found += request.began < busy.get(holder, 0.0)
            busy[holder] = max(busy.get(holder, 0.0), request.ended or request.began)
    return found
