"""What a fault may touch, and the few things that many faults do."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa
from confluent_kafka import KafkaException

from chaos import paths
from chaos.points import POINTS, Point, Way
from chaos.run.findings import VoidRunError
from chaos.run.pipeline import Pipeline
from chaos.run.plan import Action, Arm, Fired
from chaos.run.processes import Slot, Stopped
from chaos.run.servers import Broker
from chaos.wire.proxy import KafkaProxy, PostgresProxy
from common.events.codec import Codec
from common.topics import Group
from onceloop.errors import ReportedError

FIRED_SECONDS_MAX = 60.0
"""How long a fault waits for its moment: another one may have its victim down."""
MENDED_SECONDS_MAX = 120.0
"""How long a procedure may take that needs the whole pipeline, while others hurt it."""
READY_SECONDS_MAX = 60.0
TRIES_MAX = 3
TAKEN_SECONDS_MAX = 4.0
LOOK_SECONDS = 0.1

PASSED_UNDER_LOAD: Mapping[str, Sequence[Point]] = {
    service: [point for point in POINTS if point.service == service and point.way is Way.LOAD]
    for service in ("order", "inventory", "notification", "metrics")
}
"""Service -> the points that its processes pass by orders alone."""

Evidence = dict[str, Any]
T = TypeVar("T")


class Hurts(StrEnum):
    """What is hurt. Faults of one victim come one after the other, those of different ones meet."""

    WORKERS = "workers"
    WIRE = "wire"
    BROKER = "broker"
    DATABASE = "database"
    TOPIC = "topic"
    API = "api"
    NOTIFICATION = "notification"
    METRICS = "metrics"
    MACHINE = "machine"
    """Everything at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things last that take a person's time: a closed laptop, a forgotten session; seconds."""

    frozen_seconds: float
    held_seconds: float


QUICK, REAL = Pace(20.0, 15.0), Pace(90.0, 60.0)
"""For runs of minutes: longer than every time-out that these pipelines run with. For hours: as people do it."""


@dataclass(slots=True, kw_only=True)
class Harness:
    """One pipeline under faults and what stands round it. `kafka` and `postgres`: the proxies of inventory slot 0."""

    pipeline: Pipeline
    second: Broker
    """One more broker: it leads what a fault moves to it, and some of what is made while it is there."""
    kafka: KafkaProxy
    beside: KafkaProxy
    """The proxy of the second broker, for those that go through `kafka`."""
    postgres: PostgresProxy
    codec: Codec
    spared: frozenset[tuple[str, int]] = frozenset()
    """Services and slots that no fault ends."""
    hot_sku: str
    restocked_sku: str
    """The only one whose stock may be changed."""
    pace: Pace = QUICK
    recount_ahead: bool = False
    """Minutes will be recounted: no outcome may be deleted before."""
    moved: set[Group] = field(default_factory=set)
    """Groups whose offsets were set by hand: where they stand says nothing of what they have done."""
    grown: list[tuple[float, float]] = field(default_factory=list)
    """From when to when keys moved to other partitions."""
    killed: set[int] = field(default_factory=set)
    """Processes that a fault ended from outside."""
    stops: list[Stopped] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What a fault saw that no book holds."""
    guests: list[Slot] = field(default_factory=list)
    """Slots that came and went."""
    _arms: dict[str, Arm] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fire(self, arm: Arm) -> Fired:
        """Arm a point beside those that are armed already; wait for its evidence. Raises VoidRunError."""
        with self._lock:
            self._arms[arm.id] = arm
            self.pipeline.arm(*self._arms.values())
        try:
            return self.pipeline.wait_fired(arm, seconds=FIRED_SECONDS_MAX)
        finally:
            with self._lock:
                del self._arms[arm.id]
                self.pipeline.arm(*self._arms.values())

    def provoke(self, path: str, act: Callable[[], Evidence]) -> Evidence:
        """Do it until a worker takes this recovery path, a few times at most: another fault may have come between.

        Raises VoidRunError if none did.
        """
        for tries in range(1, TRIES_MAX + 1):
            marks = {log: log.stat().st_size for log in self.pipeline.folder.glob("inventory-*.log")}
            seen = act()
            deadline = time.monotonic() + TAKEN_SECONDS_MAX
            while time.monotonic() < deadline:
                if paths.since(marks)[path]:
                    return {**seen, "tries": tries}
                time.sleep(LOOK_SECONDS)
        raise VoidRunError(f"no worker took the recovery path '{path}' in {TRIES_MAX} tries")

    def wait(self, look: Callable[[], T | None], what: str, *, every_seconds: float = LOOK_SECONDS) -> T:
        """Look until there is something, and return it: another fault may have the victim down. Raises VoidRunError."""
        return self.pipeline.wait(look, what, seconds=FIRED_SECONDS_MAX, every_seconds=every_seconds)

    def wait_ready(self, *slots: Slot) -> None:
        """Wait until these are up, or all. Raises VoidRunError."""
        self.pipeline.wait_ready(*slots, seconds=READY_SECONDS_MAX)

    def unspared(self, *services: str) -> list[Slot]:
        """Return the slots of these services whose processes may be ended."""
        return [slot for slot in self.pipeline.slots(*services) if (slot.service, slot.number) not in self.spared]

    def stop_in_order(self, slot: Slot) -> Stopped:
        """Ask a process to end; note how long it took and its code. Another one is then started in its slot."""
        with self.stopped(slot) as stops:
            return stops[0]

    @contextmanager
    def stopped(self, *slots: Slot) -> Iterator[list[Stopped]]:
        """Have these end in order, and keep them from being started while the block runs."""
        stops: list[Stopped] = []
        with ExitStack() as over:
            for slot in slots:
                self.wait_ready(slot)
                over.enter_context(self.pipeline.held(slot))
                if slot.child is None:
                    raise VoidRunError(f"{slot} was gone before it could be asked to stop")
                stops.append(self.pipeline.stop(slot))
                self.stops.append(stops[-1])
            yield stops

    @contextmanager
    def guest(self, number: int, *, graceful: bool, **extra: str) -> Iterator[Slot]:
        """Have one more inventory worker while the block runs."""
        slot = self.pipeline.start("inventory", number, **extra)
        self.guests.append(slot)
        try:
            yield slot
        finally:
            stopped = self.pipeline.end(slot, graceful=graceful)
            if graceful:
                self.stops.append(stopped)

    def insist(self, act: Callable[[], T], what: str, *, seconds: float = FIRED_SECONDS_MAX) -> T:
        """Do it until it works: another fault may have a server down. Raises VoidRunError after so long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return act()
            except (ReportedError, sa.exc.OperationalError, KafkaException) as error:
                if time.monotonic() > deadline:
                    raise VoidRunError(f"{what}: {error}") from error
                time.sleep(LOOK_SECONDS)


Act = Callable[[Harness, random.Random], Evidence]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. `act` does it and returns what shows that it took place; else it raises VoidRunError.

    When it returns, whatever it broke is whole again. What it chooses, it chooses by the dice that it is given.
    `alone`: no other fault meets it. `once`: a pipeline meets it once. `ends_all`: it ends processes that are spared.
    """

    kind: str
    hurts: Hurts
    act: Act
    alone: bool = False
    once: bool = False
    ends_all: bool = False


def at_a_point(points: Sequence[Point], action: Action, *, hits: int) -> Act:
    """Return the act of having a process do this to itself at one of these points, the n-th time that it passes it."""

    def act(harness: Harness, chance: random.Random) -> Evidence:
        point = chance.choice(points)
        arm = Arm(point=str(point), action=action, hit=chance.randint(1, hits), flush=point.flush)
        return left_behind(harness.fire(arm))

    return act


def how(stops: Sequence[Stopped]) -> Evidence:
    """Return how long each took to stop, and its exit code."""
    return {stop.name: (round(stop.seconds, 2), stop.code) for stop in stops}


def left_behind(fired: Fired) -> Evidence:
    """Return what an armed point left behind."""
    return {"point": fired.point, "pid": fired.pid, "action": fired.action.value, "txn_open": fired.txn_open}
