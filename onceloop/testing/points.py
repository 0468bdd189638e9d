"""The named points of the loop at which a trial may stop a process, in the order in which the loop passes them.

A unit test holds that these are the points in the code. A trial whose point is never passed proves nothing: it fails.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Way(Enum):
    """How a trial has a process pass the point."""

    RECORDS = auto()
    """By records to work on."""
    START = auto()
    """By a start."""
    REBALANCE = auto()
    """By a second member that joins the group."""
    POISON = auto()
    """By a record that the handler refuses."""
    STOP = auto()
    """By asking the process to end."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place in the loop."""

    name: str
    way: Way = Way.RECORDS
    hit: int = 2
    """Which passing counts; 1 is the first of the process."""
    zombie: bool = False
    """Also tried with SIGSTOP, a takeover by another process, and SIGCONT."""
    outage: bool = False
    """Also tried with the database away from here on."""
    needs_output: bool = False
    """Passed only by a handler that returns records."""


POINTS: tuple[Point, ...] = (
    Point("enter", Way.START, hit=1),
    Point("dropped", Way.START, hit=1),
    Point("inited", Way.START, hit=1),
    Point("assigned", Way.START, hit=1),
    Point("committed_read", Way.START),  # the second: at the first no partition is assigned yet
    Point("seeked", Way.START),
    Point("taken"),
    Point("metadata", zombie=True),
    Point("db.read", outage=True),
    Point("handled", zombie=True),
    Point("db.sent", outage=True),
    Point("db.committed", zombie=True, outage=True),
    Point("before_begin"),
    Point("begun"),
    Point("produced_half", needs_output=True),
    Point("produced", zombie=True),
    Point("flushed"),
    Point("offsets_sent", zombie=True),
    Point("committed", zombie=True),
    Point("advanced"),
    Point("dlq.isolated", Way.POISON, hit=1),
    Point("dlq.produced", Way.POISON, hit=1),
    Point("revoked", Way.REBALANCE, hit=1),
    Point("stop.seen", Way.STOP, hit=1),
    Point("stop.closed", Way.STOP, hit=1),
)
