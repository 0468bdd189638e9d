"""One pipeline under load while faults fall on it; then the books, the paths, and what no book holds.

Faults of one victim come one after the other, each as soon as it is due and the one before it is over; those of
different victims meet, and what they do to each other is the point of it.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from audit.readers.http_history import read_history
from audit.readers.written import read_written
from audit.rules.judge import Judgement
from audit.testimony import Kind, Request
from chaos import lives, paths
from chaos.faults import FAULTS, QUICK, Evidence, Harness, Hurts, Pace
from chaos.faults.repairs import RECOUNT
from chaos.faults.topic import have_marked_orders_refused
from chaos.load import HttpLoad, Mix, Tally
from chaos.run.findings import Findings, VoidRunError
from chaos.run.pipeline import CAME_THROUGH_SECONDS_MAX, FAST, Pipeline, Servers
from chaos.run.plan import Action, read_evidence
from chaos.run.threads import Threads
from chaos.schedule import Planned
from chaos.turns import Turns
from chaos.wire.proxy import KafkaProxy, PostgresProxy
from common.kafka.schema_registry import open_codec
from common.topics import ORDERS_CREATED
from onceloop.errors import ReportedError

PARTITIONS = 8
MINUTES_SECONDS_MAX = 120.0
"""The last minute goes on for one at most, and some orders are placed ahead of time."""
HTTP_RATE = 40.0
HTTP_SHARE_MAX = 0.25
TAIL_RATE = 150.0
LOOK_SECONDS = 0.1
RECORDS_PER_ORDER_MAX = 1.2
WEB_TIMES_MAX = 10
"""Requests go on as long as faults do, for so many times the length of the load at most."""
HTTP_PATIENCE_SECONDS = 15.0
HTTP_ANSWER_SECONDS = 5.0
POISON = 0.002
HOT_UNITS = 2_000
HOT_SKU, LOCKED_SKU, RESTOCKED_SKU = 0, 1, 2
"""By rank: the most wanted one is scarce, the row of the next one gets locked, the third one's stock is changed."""
WORKER_OPTIONS = {
    "PIPELINE_KAFKA_CONSUMER_OPTIONS": FAST["PIPELINE_KAFKA_CONSUMER_OPTIONS"].replace("10000", "6000"),
    "PIPELINE_BATCH_RECORDS_MAX": "100",
}
"""A batch may take 6 s, and a backlog takes many."""
Spared = frozenset[tuple[str, int]]
Report = Callable[[str], None]
_ENDED_BY_ARM = frozenset({Action.KILL, Action.RAISE, Action.EXIT})


@contextmanager
def open_mixed_faults(
    servers: Servers, name: str, found: Findings, *, seed: int, spared: Spared = frozenset(), pace: Pace = QUICK
) -> Iterator["MixedFaults"]:
    """Open a pipeline of two workers and all that goes with them, ready; `spared`: processes that no fault ends."""
    with ExitStack() as opened:
        pipeline = opened.enter_context(servers.pipeline(name, partitions=PARTITIONS))
        mix = Mix(seed=seed, poison=POISON)
        skus = list(mix.shelves())
        pipeline.stock(mix, {skus[HOT_SKU]: HOT_UNITS})
        have_marked_orders_refused(pipeline)
        database = urlsplit(pipeline.environment("inventory_rw")["PIPELINE_POSTGRES_URL"])
        kafka = opened.enter_context(KafkaProxy(pipeline.settings.kafka_bootstrap))
        postgres = opened.enter_context(PostgresProxy((database.hostname or "", database.port or 0)))
        behind = {
            "PIPELINE_KAFKA_BOOTSTRAP": kafka.address,
            "PIPELINE_POSTGRES_URL": database._replace(netloc=f"{database.username}@{postgres.address}").geturl(),
        }
        _start_services(pipeline, behind, apart=("inventory", 1) in spared)
        pipeline.wait_opened()
        second = opened.enter_context(servers.second_broker())  # now: what brokers keep for themselves is on the first
        beside = opened.enter_context(KafkaProxy(second.address))
        kafka.stand_beside(beside)
        beside.stand_beside(kafka)
        yield MixedFaults(
            Harness(
                pipeline=pipeline,
                second=second,
                kafka=kafka,
                beside=beside,
                postgres=postgres,
                codec=open_codec(pipeline.settings, (ORDERS_CREATED,)),
                spared=spared,
                hot_sku=skus[LOCKED_SKU],
                restocked_sku=skus[RESTOCKED_SKU],
                pace=pace,
            ),
            found,
        )


def _start_services(pipeline: Pipeline, behind: Mapping[str, str], *, apart: bool) -> None:
    """Start all of them; the first worker goes through proxies, and no plan reaches the second one if it is `apart`."""
    for service in ("order-api", "order-projection", "notification", "metrics", "metrics-totals"):
        pipeline.start(service)
    pipeline.worker_options = WORKER_OPTIONS
    pipeline.start("inventory", 0, **behind)
    pipeline.start("inventory", 1, **({"CHAOS_PLAN": str(pipeline.folder / "no-plan.json")} if apart else {}))


class MixedFaults:
    """Load and hurt a pipeline once, judge it, end it; what is found goes to the findings."""

    def __init__(self, harness: Harness, found: Findings) -> None:
        self.harness = harness
        self.pipeline = harness.pipeline
        self._found = found
        self._course = lives.Course()
        self._turns = Turns()
        self._threads = Threads()
        self._lock = threading.Lock()
        self._began = 0.0

    def run(self, plan: Sequence[Planned], *, seconds: float, orders: int, report: Report) -> None:
        """Let the load run and the faults fall until both are over."""
        self._began = time.monotonic()
        self.harness.recount_ahead = any(planned.kind == RECOUNT for planned in plan)
        http_orders = round(min(HTTP_RATE * seconds, HTTP_SHARE_MAX * orders))
        mix = self.pipeline.mix(
            http_orders=WEB_TIMES_MAX * http_orders,
            http_rate=http_orders / seconds,
            direct_orders=orders - http_orders,
            direct_rate=(orders - http_orders) / seconds,
        )
        web = self.pipeline.http_load(patience_seconds=HTTP_PATIENCE_SECONDS, answer_seconds=HTTP_ANSWER_SECONDS)
        direct = self.pipeline.direct_load()
        web_load = self._threads.start("http-load", lambda: self._count(web.run(mix), "http", "ok", "info"))
        direct_load = self._threads.start(
            "direct-load", lambda: self._count(direct.run(mix), "direct", "written", "unsure")
        )
        attacks = [
            self._threads.start(f"attack-{hurts}", partial(self._attack, mine, report))
            for hurts in Hurts
            if (mine := [each for each in plan if FAULTS[each.kind].hurts is hurts])
        ]
        try:
            direct_load.join()
            if (left := self._began + seconds + 1 - time.monotonic()) > 0:
                web.stop.wait(left)
            self._go_on(web, attacks, orders)
            web_load.join()
        finally:
            web.stop.set()  # also when a signal ends the run: nothing goes on at servers that are gone
            direct.stop.set()
        self._threads.check()
        self._count_faults_of_the_load(mix)

    def judge(self, *, report: Report, minutes: bool = False) -> None:
        """Wait until all is well and through, ask every rule, end every process in order.

        `minutes`: also wait until the last minute is over, and ask for the total of each.
        """
        for proxy in (self.harness.kafka, self.harness.beside, self.harness.postgres):
            proxy.heal()
        self.pipeline.wait_ready(seconds=CAME_THROUGH_SECONDS_MAX)
        report("healed; waiting until everything came through")
        quiet_since = time.monotonic()
        judgement = self._audit(reread=not minutes)
        if minutes and judgement.sound:
            report("waiting until the last minute is over")
            judgement = self._audit(wait_seconds=MINUTES_SECONDS_MAX, minutes=True, reread=True)
        logs = sorted(self.pipeline.folder.glob("inventory-*.log"))
        self._found.paths.update(paths.taken(logs, replays=judgement.counts["replays"]))
        self._found.culprits += [*self._complaints(quiet_since=quiet_since), *lives.bad_stops(self.pipeline.end_all())]
        self._found.judged(judgement)

    def _audit(self, **how: Any) -> Judgement:
        return self.pipeline.audit(restocked=(self.harness.restocked_sku,), grown=self.harness.grown, **how)

    def _count(self, tally: Tally, accepted: str, ok: str, unsure: str) -> None:
        """Add what became of a load to the findings, under these names."""
        with self._lock:
            self._found.orders.update({accepted: tally.orders, ok: tally.ok, unsure: tally.info, "fail": tally.fail})

    def _go_on(self, web: HttpLoad, attacks: Sequence[threading.Thread], orders: int) -> None:
        """Once the load proper is over, go on with a little more for faults that still need orders to meet."""
        more, counts = self.pipeline.direct_load(), self._found.orders
        tail = self.pipeline.mix(direct_orders=1_000_000, direct_rate=TAIL_RATE)
        running = self._threads.start("tail-load", lambda: counts.update(tail=more.run(tail).orders))

        def enough() -> bool:
            return counts["direct"] + (web.done + more.done) / RECORDS_PER_ORDER_MAX >= orders

        while running.is_alive() and not (enough() and not any(thread.is_alive() for thread in attacks)):
            time.sleep(LOOK_SECONDS)
        more.stop.set()
        web.stop.set()
        running.join()

    def _attack(self, mine: Sequence[Planned], report: Report) -> None:
        """Do the faults of one victim."""
        for planned in mine:
            if (early := self._began + planned.at - time.monotonic()) > 0:
                time.sleep(early)
            with self._turns.turn(alone=FAULTS[planned.kind].alone):
                self._act(planned, report)

    def _act(self, planned: Planned, report: Report) -> None:
        fault, begun = FAULTS[planned.kind], time.monotonic()
        at = round(begun - self._began, 2)
        try:
            seen = fault.act(self.harness, random.Random(planned.dice))  # noqa: S311 - repeatable on purpose
        except (VoidRunError, ReportedError) as error:
            self._found.voids.append(f"{planned.kind} at {at:.1f} s: {error.message}")
            report(f"{at:6.1f} s  {planned.kind}: void: {error.message}")
        else:
            self._found.faults.append({"at": at, "kind": planned.kind, "planned": planned.at, **seen})
            report(f"{at:6.1f} s  {planned.kind}: {', '.join(f'{name} {value}' for name, value in seen.items())}")
        finally:
            self._course.active.append((fault.hurts, begun, time.monotonic()))

    def _count_faults_of_the_load(self, mix: Mix) -> None:
        """Name what the load itself does wrong on purpose, as faults with their number."""
        written = read_written([self.pipeline.written])
        copies = Counter(each.what for each in written if each.kind is Kind.COPY and each.at is not None)
        at_once = _at_once(read_history([self.pipeline.history]))
        evidence: dict[str, Evidence] = {
            "duplicates": dict(copies),
            "late and early orders": {"share": mix.late} if written else {},
            "same key at once": {"pairs": at_once} if at_once else {},
        }
        self._found.faults += [{"at": 0.0, "kind": kind, **seen} for kind, seen in evidence.items() if seen]

    def _complaints(self, *, quiet_since: float) -> list[str]:
        harness, slots = self.harness, self.pipeline.slots()
        ended = harness.killed | {
            fired.pid for fired in read_evidence(self.pipeline.evidence) if fired.action in _ENDED_BY_ARM
        }
        return [
            *harness.complaints,
            *lives.unasked_ends([*slots, *harness.guests], killed=ended, foreseen=lives.FORESEEN),
            *lives.slow_starts([*slots, *harness.guests], self._course),
            *lives.bad_stops(harness.stops, self._course, killed=ended),
            *lives.ends_at_rest(slots, since=quiet_since),
        ]


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
