"""Every crash point, killed; some of them also as zombies. One fault per run, and all rules asked after each.

Runs share a pipeline that goes on from run to run, so that the books of each are those of all before it. A pipeline in
which a rule broke is given up, and the next run gets a fresh one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from audit.rules.judge import Judgement
from chaos import lives
from chaos.history import Run, culprits_of
from chaos.load import Mix, PastMinutes
from chaos.points import Job, Kind, Point, Way
from chaos.run.findings import Findings, record
from chaos.run.minutes import COUNTING, PATIENT, windows_open
from chaos.run.pipeline import Pipeline, Servers
from chaos.run.plan import Action as Act
from chaos.run.plan import Arm, Fired
from chaos.run.processes import Slot
from chaos.run.series import shared, work
from chaos.run.watch import Watch
from chaos.wire.proxy import END_TXN, INIT_PRODUCER_ID, KafkaProxy
from chaos.wire.relay import Action, Direction

PARTITIONS = 4
RECYCLE_AFTER = "40"
AMPLE, SCARCE = 1_000_000, 60
SERVICE_OF = {"order": "order-api", "inventory": "inventory", "notification": "notification", "metrics": "metrics"}
WIRE = {
    "commit.sent": (END_TXN, Direction.REQUEST),
    "commit.applied": (END_TXN, Direction.RESPONSE),
    "init.sent": (INIT_PRODUCER_ID, Direction.REQUEST),
}


def run(servers: Servers, wanted: Sequence[Job], *, seed: int, report: Callable[[Run], None]) -> list[Run]:
    """Do the runs, kills and zombies side by side in pipelines of their own; report each as it ends.

    Zombies mostly sleep, so theirs are done first; then they are followed by those in which minutes are counted.
    """
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
    return work(rows, lambda name: open_series(servers, name, seed=seed), report)


@contextmanager
def open_series(servers: Servers, name: str, *, seed: int) -> Iterator["CrashSeries"]:
    """Open a pipeline, ready: the whole way of an order, or what counts minutes."""
    with servers.pipeline(name, partitions=PARTITIONS) as pipeline:
        pipeline.stock(Mix(seed=seed, units=SCARCE if "scarce" in name else AMPLE))
        minutes = name.startswith("minutes")
        if minutes:
            pipeline.clock = PastMinutes()
        for service in () if minutes else ("order-api", "order-projection", "notification"):
            pipeline.start(service)
        for service in ("metrics", "metrics-totals") if minutes else ():
            pipeline.start(service, 0, **COUNTING)
        for slot in range(2 if name.startswith("zombie") else 1):
            pipeline.start("inventory", slot)
        watch = pipeline.open(Watch(pipeline.settings))
        pipeline.wait_opened()
        yield CrashSeries(pipeline, watch, seed=seed, minutes=minutes)


class CrashSeries:
    """The runs of one pipeline."""

    def __init__(self, pipeline: Pipeline, watch: Watch, *, seed: int, minutes: bool) -> None:
        self._pipeline, self._watch = pipeline, watch
        self._seed, self._minutes = seed, minutes

    def run(self, job: Job) -> Run:
        """Do one run and judge all that happened in this pipeline so far."""

        def act(found: Findings) -> None:
            self._provoke(job, found)
            found.judged(self.audit())
            found.culprits += self._lived_badly(found)

        return self._record(str(job), act)

    def at_rest(self) -> Run:
        """Read everything a second time, then ask every process to end in order."""

        def act(found: Findings) -> None:
            found.judged(self.audit(reread=True))
            found.culprits += self._lived_badly(found)
            found.culprits += lives.bad_stops([self._pipeline.end(slot) for slot in self._pipeline.slots()])

        return self._record(f"pipeline {self._pipeline.name} at rest", act)

    def _record(self, subject: str, act: Callable[[Findings], None]) -> Run:
        return record(act, tier="matrix", subject=subject, seed=self._seed, name=subject)

    def audit(self, *, reread: bool = False) -> Judgement:
        """Judge all that happened in this pipeline, once it has come through; `reread`: by a second reader as well."""
        return self._pipeline.audit(followers=not self._minutes, minutes=self._minutes, reread=reread)

    def load(self, *, http: int = 20, direct: int = 180, poison: float = 0.01) -> None:
        """Put so many more orders in, over HTTP and onto the topic; each time other ones.

        Where minutes are counted, all go onto the topic, and were placed in minutes that are over.
        """
        self._pipeline.load(http=0 if self._minutes else http, direct=direct, poison=poison)

    def _provoke(self, job: Job, found: Findings) -> None:
        if job.kind is Kind.ZOMBIE:
            self._zombie(job.point, found)
        elif job.point.way is Way.WIRE:
            self._kill_on_the_wire(job.point, found)
        else:
            self._kill(job.point, found)

    def _kill(self, point: Point, found: Findings) -> None:
        slot = self._pipeline.slot(SERVICE_OF[point.service])
        if point.way is Way.RECYCLE:
            self._pipeline.replace(slot, graceful=True, PIPELINE_HTTP_REQUESTS_MAX=RECYCLE_AFTER)
        self._pipeline.wait_ready(slot)  # the one that the run before replaced may still start, deaf to a stop
        fired = self._fire(point, Act.KILL, found, lambda: self._reach(point, slot, found))
        found.killed.add(fired.pid)
        found.fault("kill", at=fired.monotonic, point=str(point), pid=fired.pid)
        if point.way is Way.REBALANCE:
            self.load()
        if point.service == "inventory":
            self._measure(fired.monotonic, found)
        if point.way is Way.REBALANCE:
            self._pipeline.end(self._pipeline.slot("inventory", 1))
        if point.way is Way.RECYCLE:
            self._pipeline.replace(slot, graceful=True)

    def _fire(self, point: Point, action: Act, found: Findings, reach: Callable[[], None]) -> Fired:
        """Arm the point, have it reached, and return the evidence; M1 asks whether a transaction was open."""
        arm = Arm(point=str(point), action=action, hit=point.hit, flush=point.flush)
        self._pipeline.arm(arm)
        reach()
        fired = self._pipeline.wait_fired(arm)
        found.txn_open = fired.txn_open
        if fired.txn_open != point.txn_open:
            found.culprits.append(f"M1: the transaction was {'open' if fired.txn_open else 'closed'} at {point}")
        return fired

    def _reach(self, point: Point, slot: Slot, found: Findings) -> None:
        match point.way:
            case Way.POISON:
                self.load(poison=0.05)
            case Way.START if point.service == "metrics":
                self._leave_windows_open(slot)
                found.killed.add(self._pipeline.shoot(slot))
            case Way.START:
                found.killed.add(self._pipeline.shoot(slot))
                self.load()
            case Way.REBALANCE:
                self._pipeline.start("inventory", 1)
            case Way.STOP:
                self.load(http=0)
                found.killed.add(slot.pid)
                if slot.child is not None:
                    slot.child.ask_to_stop()
                self.load()
            case _ if point.service == "order":
                self.load(http=120, direct=80)
            case _:
                self.load()

    def _leave_windows_open(self, counting: Slot) -> None:
        """Have orders counted of which the last minute stays open; the next process waits no longer than usual."""
        self._pipeline.replace(counting, graceful=True, **PATIENT)
        self.load()
        self._pipeline.wait(lambda: windows_open(self._pipeline.settings), "a window open behind a committed one")
        counting.extra = COUNTING

    def _kill_on_the_wire(self, point: Point, found: Findings) -> None:
        slot = self._pipeline.slot("inventory")
        api_key, direction = WIRE[point.name]
        moment: list[float] = []

        def shoot(_frame: object) -> None:
            slot.extra = {}  # the successor goes to the broker directly
            moment.append(time.monotonic())
            found.killed.add(self._pipeline.shoot(slot))

        with KafkaProxy(self._pipeline.settings.kafka_bootstrap) as proxy:
            rule = proxy.rule(api_key, direction=direction, action=Action.PASS, then=shoot)
            self._pipeline.replace(slot, PIPELINE_KAFKA_BOOTSTRAP=proxy.address)
            self.load(http=0)
            frame = rule.wait()
        found.txn_open = point.txn_open
        found.fault("kill", at=moment[0], point=str(point), api_key=frame.kind)
        self.load()
        self._measure(moment[0], found)

    def _zombie(self, point: Point, found: Findings) -> None:
        if point.service == "metrics":
            self._pipeline.wait_ready(self._pipeline.start("metrics", 1, **COUNTING))

        def reach() -> None:
            if point.way is Way.START:
                found.killed.add(self._pipeline.shoot(self._pipeline.slot("inventory")))
            self.load(poison=0.05 if point.way is Way.POISON else 0.01)

        fired = self._fire(point, Act.STOP, found, reach)
        zombie = next(slot for slot in self._pipeline.slots() if slot.pid == fired.pid)
        known = zombie.log.stat().st_size
        judgement = self.audit()  # waits: the one that took its partitions over has finished what the sleeper holds
        found.culprits += [f"before it woke: {line}" for line in culprits_of(judgement)]
        slept = round(time.monotonic() - fired.monotonic, 2)
        found.fault("zombie", at=fired.monotonic, point=str(point), pid=fired.pid, slept=slept)
        self._pipeline.wake(fired)
        self._pipeline.wait(
            lambda: b"recovery.started" in zombie.log.read_bytes()[known:], "the zombie back at its door"
        )
        if point.way is Way.START:
            self._pipeline.wait_ready(zombie)
            zombie.starts.clear()  # most of that start it was stopped, by us
        self.load(http=0, direct=100)
        if point.service == "metrics":
            self._pipeline.end(self._pipeline.slot("metrics", 1))

    def _measure(self, moment: float, found: Findings) -> None:
        stall = self._watch.stall(moment)
        found.stall_seconds = None if stall is None else round(stall, 3)
        first = self._pipeline.wait(lambda: self._watch.first_after(moment), "an outcome after the kill")
        found.recovery_seconds = round(first, 3)

    def _lived_badly(self, found: Findings) -> list[str]:
        """L3: no process dies without a fault, and each is ready in time; what was seen is forgotten."""
        slots = self._pipeline.slots()
        complaints = [*lives.unasked_ends(slots, killed=found.killed), *lives.slow_starts(slots)]
        for slot in slots:
            slot.deaths.clear()
            slot.starts.clear()
        return complaints
