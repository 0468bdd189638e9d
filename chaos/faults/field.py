"""What a fault may touch, and the few things that many faults do."""

import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from chaos import paths
from chaos.lane import Kept, Lane, VoidRunError
from chaos.plan import Arm, Fired
from chaos.proxy import KafkaProxy, PostgresProxy
from chaos.scene import Ground
from common.events.codec import Codec

FIRED_SECONDS_MAX = 60.0
"""How long a fault waits for its moment: another one may have its victim down."""
READY_SECONDS_MAX = 60.0
TRIES_MAX = 3
TAKEN_SECONDS_MAX = 4.0
LOOK_SECONDS = 0.1

Evidence = dict[str, Any]


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


@dataclass(frozen=True, slots=True)
class Stopped:
    """An orderly end that was asked for at `at`, by the machine's monotonic clock."""

    name: str
    at: float
    seconds: float
    code: int | None


@dataclass(slots=True, kw_only=True)
class Field:
    """One pipeline and what stands round it. `kafka` and `postgres`: the proxies of inventory slot 0."""

    ground: Ground
    lane: Lane
    kafka: KafkaProxy
    postgres: PostgresProxy
    codec: Codec
    spared: frozenset[tuple[str, int]] = frozenset()
    """Services and slots that no fault ends."""
    hot_sku: str
    worker_options: Mapping[str, str]
    """What the environment of each inventory worker has besides."""
    killed: set[int] = field(default_factory=set)
    """Processes that a fault ended from outside."""
    stops: list[Stopped] = field(default_factory=list)
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
            child, began = kept.child, time.monotonic()
            if child is None:
                raise VoidRunError(f"{kept.name} {kept.slot} was gone before it could be asked to stop")
            child.ask_to_stop()
            code = child.wait(8.0)
            if code is None:
                child.kill()
            self.lane.wait(lambda: kept.child is not child, "the keeper seeing the end")  # or it would be a death
        stopped = Stopped(f"{kept.name} {kept.slot}", began, time.monotonic() - began, code)
        self.stops.append(stopped)
        return stopped

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
    """

    kind: str
    hurts: Hurts
    act: Act


def told(fired: Fired) -> Evidence:
    """Return what an armed point left behind."""
    return {"point": fired.point, "pid": fired.pid, "action": fired.action.value, "txn_open": fired.txn_open}
