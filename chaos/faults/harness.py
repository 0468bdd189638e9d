"""What a fault may touch, and the few things that many faults do."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from confluent_kafka import KafkaException

from audit.terms import Offsets
from chaos import paths
from chaos.run.pipeline import Kept, Lane, VoidRunError
from chaos.run.plan import Arm, Fired
from chaos.run.servers import Broker, Ground
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
class Stopped:
    """An orderly end that was asked for at `at`, by the machine's monotonic clock."""

    name: str
    pid: int
    at: float
    seconds: float
    code: int | None


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things last that take a person's time: a closed laptop, a forgotten session; seconds."""

    frozen_seconds: float
    held_seconds: float


QUICK, REAL = Pace(20.0, 15.0), Pace(90.0, 60.0)
"""For runs of minutes: longer than every time-out that these pipelines run with. For hours: as people do it."""


@dataclass(slots=True, kw_only=True)
class Field:
    """One pipeline and what stands round it. `kafka` and `postgres`: the proxies of inventory slot 0."""

    ground: Ground
    second: Broker
    """One more broker: it leads what a fault moves to it, and some of what is made while it is there."""
    lane: Lane
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
    worker_options: Mapping[str, str]
    """What the environment of each inventory worker has besides."""
    read_ahead: Callable[[Offsets], None]
    """Have the judge read up to these offsets. Raises StoreDownError."""
    recounting: Callable[[], AbstractContextManager[None]]
    """Have the judge read again what is recounted within the block, and nothing ahead meanwhile."""
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
    others: list[Kept] = field(default_factory=list)
    """Processes that came and went."""
    _arms: dict[str, Arm] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def planted(self) -> Path:
        """The file that names the records which faults put onto `orders.created`."""
        return self.lane.site.folder / "planted.jsonl"

    def fire(self, arm: Arm) -> Fired:
        """Arm a point beside those that are armed already; wait for its evidence. Raises VoidRunError."""
        with self._lock:
            self._arms[arm.id] = arm
            self.lane.arm(*self._arms.values())
        try:
            return self.lane.wait_fired(arm, seconds=FIRED_SECONDS_MAX)
        finally:
            with self._lock:
                del self._arms[arm.id]
                self.lane.arm(*self._arms.values())

    def provoke(self, path: str, act: Callable[[], Evidence]) -> Evidence:
        """Do it until a worker takes this recovery path, a few times at most: another fault may have come between.

        Raises VoidRunError if none did.
        """
        for tries in range(1, TRIES_MAX + 1):
            marks = {log: log.stat().st_size for log in self.lane.site.folder.glob("inventory-*.log")}
            seen = act()
            deadline = time.monotonic() + TAKEN_SECONDS_MAX
            while time.monotonic() < deadline:
                if paths.since(marks)[path]:
                    return {**seen, "tries": tries}
                time.sleep(LOOK_SECONDS)
        raise VoidRunError(f"no worker took the recovery path '{path}' in {TRIES_MAX} tries")

    def worker_of(self, pid: int) -> Kept | None:
        """Return the kept process with this id, if it still lives."""
        return next((kept for kept in self.lane.processes() if kept.pid == pid), None)

    def wait_ready(self, kept: Kept) -> None:
        """Wait until a process is up. Raises VoidRunError."""
        self.lane.wait_ready(kept, seconds=READY_SECONDS_MAX)

    def unspared(self, *names: str) -> list[Kept]:
        """Return the processes of these services that may be ended."""
        return [
            kept for kept in self.lane.processes() if kept.name in names and (kept.name, kept.slot) not in self.spared
        ]

    def stop_in_order(self, kept: Kept) -> Stopped:
        """Ask a process to end; note how long it took and its code. The keeper starts it anew."""
        self.wait_ready(kept)
        with self.lane.held(kept):
            return self._end(kept)

    @contextmanager
    def stopped(self, *stopping: Kept) -> Iterator[None]:
        """Have these end in order, and keep them from being started while the block runs."""
        with ExitStack() as over:
            for kept in stopping:
                self.wait_ready(kept)
                over.enter_context(self.lane.held(kept))
                self._end(kept)
            yield

    def _end(self, kept: Kept) -> Stopped:
        child, began = kept.child, time.monotonic()
        if child is None:
            raise VoidRunError(f"{kept.name} {kept.slot} was gone before it could be asked to stop")
        child.ask_to_stop()
        code = child.wait(8.0)
        if code is None:
            child.kill()
        self.lane.wait(lambda: kept.child is not child, "the keeper seeing the end")  # or it would be a death
        stopped = Stopped(f"{kept.name} {kept.slot}", child.pid, began, time.monotonic() - began, code)
        self.stops.append(stopped)
        return stopped

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

    def wake(self, fired: Fired) -> bool:
        """Send SIGCONT to a process that was stopped; return False if it is gone."""
        kept = self.worker_of(fired.pid)
        if kept is None or kept.child is None:
            return False
        with suppress(ProcessLookupError):
            kept.child.send(signal.SIGCONT)
        return True


Act = Callable[[Field, random.Random], Evidence]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. `act` does it and returns what tells that it took place; else it raises VoidRunError.

    When it returns, whatever it broke is whole again. What it chooses, it chooses by the dice that it is given.
    `alone`: no other fault meets it. `once`: a pipeline meets it once. `ends_all`: it ends processes that are spared.
    """

    kind: str
    hurts: Hurts
    act: Act
    alone: bool = False
    once: bool = False
    ends_all: bool = False


def told(fired: Fired) -> Evidence:
    """Return what an armed point left behind."""
    return {"point": fired.point, "pid": fired.pid, "action": fired.action.value, "txn_open": fired.txn_open}
