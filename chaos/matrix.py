"""Every crash point, killed; some of them also as zombies. One fault per run, and all rules asked after each.

Runs share a lane: a pipeline that goes on from run to run, so that the books of each are those of all before it. A lane
in which a rule broke is given up, and the next run gets a fresh one.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from audit.errors import StoreDownError
from audit.readers.evidence import Evidence
from audit.readers.snapshots import StockSampler
from audit.rules.judge import Judgement
from audit.whole import Auditor
from chaos.history import Conditions, Result, Run, culprits_of, rules_of
from chaos.lives import READY_SECONDS_MAX, STOP_SECONDS_MAX
from chaos.load import DirectLoad, HttpLoad, Mix, PastMinutes, wall_clock_ms
from chaos.points import Job, Kind, Point, Way, jobs
from chaos.run.minutes import COUNTING, PATIENT, windows_open
from chaos.run.pipeline import Kept, Lane, VoidRunError
from chaos.run.plan import Action as Act
from chaos.run.plan import Arm
from chaos.run.series import shared, work
from chaos.run.servers import Ground
from chaos.run.watch import Watch
from chaos.wire.proxy import END_TXN, INIT_PRODUCER_ID, KafkaProxy
from chaos.wire.relay import Action, Direction

__all__ = ["Job", "Kind", "Scene", "jobs", "open_scene", "run"]

PARTITIONS = 4
CAME_THROUGH_SECONDS_MAX = 60.0
BATCH = "25"
RECYCLE_AFTER = "40"
AMPLE, SCARCE = 1_000_000, 60
SERVICE_OF = {"order": "order-api", "inventory": "inventory", "notification": "notification", "metrics": "metrics"}
WIRE = {
    "commit.sent": (END_TXN, Direction.REQUEST),
    "commit.applied": (END_TXN, Direction.RESPONSE),
    "init.sent": (INIT_PRODUCER_ID, Direction.REQUEST),
}


@dataclass(slots=True)
class _Findings:
    """What a run saw besides the books."""

    txn_open: bool | None = None
    faults: list[dict[str, Any]] = field(default_factory=list)
    recovery_seconds: float | None = None
    stall_seconds: float | None = None
    killed: set[int] = field(default_factory=set)
    """Processes whose death the run wanted."""
    complaints: list[str] = field(default_factory=list)


def run(
    ground: Ground, wanted: Sequence[Job], *, seed: int, report: Callable[[Run], None], conditions: Conditions
) -> list[Run]:
    """Do the runs, kills and zombies side by side in lanes of their own; report each as it ends.

    Zombies mostly sleep, so their lanes are done first; then they are followed by those in which minutes are counted.
    """
    done: list[Run] = []
    lock = threading.Lock()

    def note(finished: Run) -> None:
        with lock:
            done.append(finished)
            report(finished)

    minutes = [job for job in wanted if job.point.service == "metrics"]
    kills, zombies = ([job for job in wanted if job.kind is kind and job not in minutes] for kind in Kind)
    rows = [[share] for share in shared(kills, "ample", "scarce")] + [
        [asleep, counting]
        for asleep, counting in zip(
            shared(zombies, "zombie-ample", "zombie-scarce"),
            shared(minutes, "minutes-ample", "minutes-scarce"),
            strict=True,
        )
    ]
    work(rows, lambda name: open_scene(ground, name, seed=seed), note, conditions)
    return done


@contextmanager
def open_scene(ground: Ground, name: str, *, seed: int) -> Iterator["Scene"]:
    """Open a lane with a pipeline in it, ready: the whole way of an order, or what counts minutes."""
    with ExitStack() as opened:
        site = opened.enter_context(ground.site(name, partitions=PARTITIONS))
        lane = opened.enter_context(Lane(site))
        for file in ("history.jsonl", "written.jsonl", "stock.jsonl"):
            (site.folder / file).touch()
        units = SCARCE if "scarce" in name else AMPLE
        lane.set_stock(Mix(seed=seed, units=units).shelves())
        minutes = name.startswith("minutes")
        for service in () if minutes else ("order-api", "order-projection", "notification"):
            lane.start(service)
        for service in ("metrics", "metrics-totals") if minutes else ():
            lane.start(service, 0, **COUNTING)
        for slot in range(2 if name.startswith("zombie") else 1):
            lane.start("inventory", slot, PIPELINE_BATCH_RECORDS_MAX=BATCH)
        watch = opened.enter_context(Watch(site.settings))
        auditor = opened.enter_context(Auditor(site.settings))
        opened.enter_context(StockSampler(site.settings, site.folder / "stock.jsonl"))
        lane.wait_opened()
        yield Scene(lane, watch, auditor, seed=seed, units=units, minutes=minutes)


class Scene:
    """One lane and what is done in it."""

    def __init__(
        self, lane: Lane, watch: Watch, auditor: Auditor, *, seed: int, units: int, minutes: bool = False
    ) -> None:
        self._lane, self._watch, self._auditor = lane, watch, auditor
        self._seed, self._units = seed, units
        self._loads = 0
        self._folder = lane.site.folder
        self._minutes, self._now_ms = minutes, PastMinutes() if minutes else wall_clock_ms

    def play(self, job: Job, conditions: Conditions) -> Run:
        """Do one run and judge all that happened in this lane so far."""
        return self._judged(str(job), lambda found: self._provoke(job, found), conditions)

    def at_rest(self, conditions: Conditions) -> Run:
        """Read everything a second time, then ask every process to end in order."""
        return self._judged(f"lane {self._lane.site.name} at rest", self._end_in_order, conditions, reread=True)

    def _judged(
        self, subject: str, act: Callable[[_Findings], None], conditions: Conditions, *, reread: bool = False
    ) -> Run:
        found, began = _Findings(), time.monotonic()
        started = datetime.now(UTC).isoformat(timespec="seconds")
        judgement: Judgement | None = None
        void = ""
        try:
            if not reread:
                act(found)
            judgement = self.audit(reread=reread)
            if reread:
                act(found)
            found.complaints += self._unasked_deaths(found)
        except (VoidRunError, StoreDownError) as error:
            void = error.message
        broken = culprits_of(judgement) if judgement is not None else []
        culprits = broken + found.complaints
        return Run(
            id=f"matrix-{self._seed}-{subject.replace(' ', '-').replace(':', '.')}",
            tier="matrix",
            subject=subject,
            seed=self._seed,
            result=Result.VOID if void else Result.FAILED if culprits else Result.PASSED,
            why=void or "; ".join(culprits[:1]),
            started=started,
            seconds=round(time.monotonic() - began, 2),
            txn_open=found.txn_open,
            faults=[{**fault, "at": round(fault["at"] - began, 2)} for fault in found.faults],
            orders=dict(judgement.counts) if judgement else {},
            rules=rules_of(judgement) if judgement else {},
            culprits=culprits,
            recovery_seconds=found.recovery_seconds,
            stall_seconds=found.stall_seconds,
            conditions=conditions,
        )

    def audit(self, *, reread: bool = False) -> Judgement:
        """Judge all that happened in this lane, once it has come through; `reread`: by a second reader as well."""
        evidence = Evidence(
            history=self._folder / "history.jsonl",
            written=self._folder / "written.jsonl",
            snapshots=self._folder / "stock.jsonl",
            logs=[kept.log for kept in self._lane.processes()],
            secrets=self._lane.site.secrets,
            reread=reread,
            heads=self._lane.site.heads,
        )
        return self._auditor.audit(
            wait_seconds=CAME_THROUGH_SECONDS_MAX,
            followers=not self._minutes,
            minutes=self._minutes,
            restocked=False,
            evidence=evidence,
        )

    def load(self, *, http: int = 20, direct: int = 180, poison: float = 0.01) -> None:
        """Put so many more orders in, over HTTP and onto the topic; each time other ones.

        Where minutes are counted, all go onto the topic, and were placed in minutes that are over.
        """
        self._loads += 1
        http = 0 if self._minutes else http
        mix = Mix(
            seed=self._seed + self._loads, http_orders=http, direct_orders=direct, poison=poison, units=self._units
        )
        if direct:
            DirectLoad(self._lane.site.settings, self._folder / "written.jsonl", now_ms=self._now_ms).run(mix)
        if http:
            port = self._lane.kept("order-api").port
            HttpLoad(f"http://127.0.0.1:{port}", self._folder / "history.jsonl").run(mix)

    def _provoke(self, job: Job, found: _Findings) -> None:
        if job.kind is Kind.ZOMBIE:
            self._zombie(job.point, found)
        elif job.point.way is Way.WIRE:
            self._kill_on_the_wire(job.point, found)
        else:
            self._kill(job.point, found)

    def _kill(self, point: Point, found: _Findings) -> None:
        kept = self._lane.kept(SERVICE_OF[point.service])
        if point.way is Way.RECYCLE:
            self._lane.replace(kept, graceful=True, PIPELINE_HTTP_REQUESTS_MAX=RECYCLE_AFTER)
        self._lane.wait_ready(kept)  # whoever the run before replaced may still be on its way, deaf to a stop
        arm = Arm(point=str(point), action=Act.KILL, hit=point.hit)
        self._lane.arm(arm)
        self._reach(point, kept, found)
        fired = self._lane.wait_fired(arm)
        found.killed.add(fired.pid)
        found.txn_open = fired.txn_open
        found.faults.append({"at": fired.monotonic, "kind": "kill", "point": str(point), "pid": fired.pid})
        if fired.txn_open != point.txn_open:
            found.complaints.append(f"M1: the transaction was {'open' if fired.txn_open else 'closed'} at {point}")
        if point.way is Way.REBALANCE:
            self.load()
        if point.service == "inventory":
            self._measure(fired.monotonic, found)
        if point.way is Way.REBALANCE:
            self._lane.end(self._lane.kept("inventory", 1))
        if point.way is Way.RECYCLE:
            self._lane.replace(kept, graceful=True)

    def _reach(self, point: Point, kept: Kept, found: _Findings) -> None:
        match point.way:
            case Way.POISON:
                self.load(poison=0.05)
            case Way.START if point.service == "metrics":
                self._leave_windows_open(kept)
                found.killed.add(self._lane.shoot(kept))
            case Way.START:
                found.killed.add(self._lane.shoot(kept))
                self.load()
            case Way.REBALANCE:
                self._lane.start("inventory", 1, PIPELINE_BATCH_RECORDS_MAX=BATCH)
            case Way.STOP:
                self.load(http=0)
                found.killed.add(kept.pid)
                if kept.child is not None:
                    kept.child.ask_to_stop()
                self.load()
            case _ if point.service == "order":
                self.load(http=120, direct=80)
            case _:
                self.load()

    def _leave_windows_open(self, counting: Kept) -> None:
        """Have orders counted of which the last minute stays open; who is started next waits no longer than usual."""
        self._lane.replace(counting, graceful=True, **PATIENT)
        self.load()
        self._lane.wait(lambda: windows_open(self._lane.site.settings), "a window open behind a committed one")
        counting.extra = COUNTING

    def _kill_on_the_wire(self, point: Point, found: _Findings) -> None:
        kept = self._lane.kept("inventory")
        api_key, direction = WIRE[point.name]
        moment: list[float] = []

        def shoot(_frame: object) -> None:
            kept.extra = {"PIPELINE_BATCH_RECORDS_MAX": BATCH}  # the successor goes to the broker directly
            moment.append(time.monotonic())
            found.killed.add(self._lane.shoot(kept))

        with KafkaProxy(self._lane.site.settings.kafka_bootstrap) as proxy:
            rule = proxy.rule(api_key, direction=direction, action=Action.PASS, then=shoot)
            self._lane.replace(kept, PIPELINE_KAFKA_BOOTSTRAP=proxy.address, PIPELINE_BATCH_RECORDS_MAX=BATCH)
            self.load(http=0)
            try:
                frame = rule.wait()
            except TimeoutError as error:
                raise VoidRunError(str(error)) from error
        found.txn_open = point.txn_open
        found.faults.append({"at": moment[0], "kind": "kill", "point": str(point), "api_key": frame.kind})
        self.load()
        self._measure(moment[0], found)

    def _zombie(self, point: Point, found: _Findings) -> None:
        if point.service == "metrics":
            self._lane.wait_ready(self._lane.start("metrics", 1, **COUNTING))
        arm = Arm(point=str(point), action=Act.STOP, hit=point.hit)
        self._lane.arm(arm)
        if point.way is Way.START:
            found.killed.add(self._lane.shoot(self._lane.kept("inventory")))
        self.load(poison=0.05 if point.way is Way.POISON else 0.01)
        fired = self._lane.wait_fired(arm)
        found.txn_open = fired.txn_open
        if fired.txn_open != point.txn_open:
            found.complaints.append(f"M1: the transaction was {'open' if fired.txn_open else 'closed'} at {point}")
        zombie = next(kept for kept in self._lane.processes() if kept.pid == fired.pid)
        known = zombie.log.stat().st_size
        judgement = self.audit()  # waits: whoever took its partitions over has finished what the sleeper holds
        found.complaints += [f"before it woke: {line}" for line in culprits_of(judgement)]
        found.faults.append(
            {
                "at": fired.monotonic,
                "kind": "zombie",
                "point": str(point),
                "pid": fired.pid,
                "slept": round(time.monotonic() - fired.monotonic, 2),
            }
        )
        if zombie.child is not None:
            zombie.child.send(signal.SIGCONT)
        self._lane.wait(lambda: b"recovery.started" in zombie.log.read_bytes()[known:], "the zombie back at its door")
        if point.way is Way.START:
            self._lane.wait_ready(zombie)
            zombie.starts.clear()  # most of that start it was stopped, by us
        self.load(http=0, direct=100)
        if point.service == "metrics":
            self._lane.end(self._lane.kept("metrics", 1))

    def _measure(self, moment: float, found: _Findings) -> None:
        found.stall_seconds = _rounded(self._watch.stall(moment))
        self._lane.wait(lambda: self._watch.first_after(moment) is not None, "an outcome after the kill")
        found.recovery_seconds = _rounded(self._watch.first_after(moment))

    def _unasked_deaths(self, found: _Findings) -> list[str]:
        """L3: nobody dies without a fault, and whoever starts is ready in time."""
        lines = []
        for kept in self._lane.processes():
            lines += [
                f"L3: {kept.name}-{kept.slot} ended with {death.code} without a fault"
                for death in kept.deaths
                if death.pid not in found.killed
            ]
            lines += [
                f"L3: {kept.name}-{kept.slot} took {start.seconds:.1f} s to get ready"
                for start in kept.starts
                if start.seconds > READY_SECONDS_MAX
            ]
            kept.deaths.clear()
            kept.starts.clear()
        return lines

    def _end_in_order(self, found: _Findings) -> None:
        """L4: everybody ends within five seconds and with exit code 0."""
        for kept in self._lane.processes():
            began = time.monotonic()
            code = self._lane.end(kept)
            seconds = time.monotonic() - began
            if code != 0 or seconds > STOP_SECONDS_MAX:
                found.complaints.append(f"L4: {kept.name}-{kept.slot} ended with {code} after {seconds:.1f} s")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
