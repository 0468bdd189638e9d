"""The named points of the services, in the order in which a loop passes them: how each is reached, what must be open.

Source of the table: docs/guarantees.md, "Crash points". A point that no process passes any more makes its run void.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from onceloop.errors import UsageError


class Way(Enum):
    """How a run has a process pass the point."""

    LOAD = auto()
    """By orders alone."""
    POISON = auto()
    """By records that hold no order."""
    START = auto()
    """By a restart."""
    REBALANCE = auto()
    """By another member that comes."""
    STOP = auto()
    """By asking the process to end."""
    RECYCLE = auto()
    """By more requests than a worker of the API serves."""
    WIRE = auto()
    """No line of the process marks it: a proxy sees the request, or the answer, and kills."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place to crash at. `txn_open`: whether the process has a Kafka transaction open there."""

    service: str
    name: str
    way: Way
    hit: int = 2
    """Which passing counts; the first one of a fresh process may be a special one."""
    txn_open: bool = False
    zombie: bool = False
    """Also run with SIGSTOP, a takeover, and SIGCONT."""
    flush: bool = False
    """What was produced is to be on the broker there: a process that is hurt there sends it first."""

    def __str__(self) -> str:
        return f"{self.service}:{self.name}"


class Kind(StrEnum):
    """What is done at the point."""

    KILL = "kill"
    ZOMBIE = "zombie"


@dataclass(frozen=True, slots=True)
class Job:
    """One run to do."""

    point: Point
    kind: Kind

    def __str__(self) -> str:
        return f"{self.point} {self.kind}"


def _inventory(
    *names: str, way: Way = Way.LOAD, hit: int = 2, txn_open: bool = False, zombies: Iterable[str] = ()
) -> tuple[Point, ...]:
    return tuple(
        Point("inventory", name, way, hit=hit, txn_open=txn_open, zombie=name in frozenset(zombies)) for name in names
    )


POINTS: tuple[Point, ...] = (
    *_inventory("taken", "metadata", "decoded", "db.read", zombies=["metadata"]),
    *_inventory("db.decided", "db.sent", "db.committed", zombies=["db.decided", "db.sent", "db.committed"]),
    *_inventory("before_begin"),
    *_inventory("begun", "produced_half", "produced", txn_open=True, zombies=["begun", "produced"]),
    Point("inventory", "flushed", Way.LOAD, txn_open=True, zombie=True, flush=True),
    *_inventory("offsets_sent", txn_open=True, zombies=["offsets_sent"]),
    *_inventory("commit.sent", way=Way.WIRE, txn_open=True),
    *_inventory("commit.applied", way=Way.WIRE),
    *_inventory("committed", "advanced", zombies=["committed"]),
    *_inventory("enter", "dropped", way=Way.START, hit=1),
    *_inventory("init.sent", way=Way.WIRE, hit=1),
    *_inventory("inited", way=Way.START, hit=1, zombies=["inited"]),
    *_inventory("committed_read", "seeked", way=Way.START),  # the second: the first knows of no partition yet
    *_inventory("assigned", way=Way.START, hit=1),
    *_inventory("revoked", way=Way.REBALANCE, hit=1),
    *_inventory("dlq.isolated", way=Way.POISON, hit=1),
    *_inventory("dlq.produced", way=Way.POISON, hit=1, txn_open=True, zombies=["dlq.produced"]),
    *_inventory("stop.seen", "stop.closed", way=Way.STOP, hit=1),
    *(
        Point("order", name, Way.LOAD, hit=5)
        for name in ("parsed", "key.stored", "produced", "acked", "key.marked", "responding")
    ),
    Point("order", "recycle", Way.RECYCLE, hit=1),
    Point("order", "stop", Way.STOP, hit=1),
    Point("metrics", "window.updated", Way.LOAD),
    Point("metrics", "window.closing", Way.LOAD),
    Point("metrics", "produced", Way.LOAD, txn_open=True, zombie=True),
    Point("metrics", "offsets_sent", Way.LOAD, txn_open=True),
    Point("metrics", "window.refilled", Way.START, hit=1),
    *(
        Point("notification", name, Way.LOAD, hit=1)
        for name in ("taken", "ledger.claimed", "before_send", "sent", "ledger.done", "offset.committed")
    ),
)

ZOMBIES: tuple[Point, ...] = tuple(point for point in POINTS if point.zombie)


def jobs(*, point: str = "", kind: Kind | None = None) -> list[Job]:
    """Return all runs, or those of one point or one kind."""
    every = [Job(each, Kind.KILL) for each in POINTS] + [Job(each, Kind.ZOMBIE) for each in ZOMBIES]
    return [job for job in every if point in {"", str(job.point)} and kind in {None, job.kind}]


def named(name: str) -> Point:
    """Return a point by `<service>:<point>`. Raises UsageError with those that there are."""
    for point in POINTS:
        if str(point) == name:
            return point
    raise UsageError(f"no point {name}", cure=f"one of: {', '.join(map(str, POINTS))}")
