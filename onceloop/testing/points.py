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
    means: str
    """How far the process has come there, as a half sentence."""
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
    Point("enter", "recovery begins", Way.START, hit=1),
    Point("dropped", "the slot's former producer is let go", Way.START, hit=1),
    Point("inited", "the new producer has fenced the former one", Way.START, hit=1),
    Point("assigned", "the group has given out partitions", Way.START, hit=1),
    # The second passing: at the first no partition is assigned yet.
    Point("committed_read", "the committed offsets are read", Way.START),
    Point("seeked", "reading stands at the committed offsets", Way.START),
    Point("taken", "a batch is read from the topics"),
    Point("metadata", "the group has said as whom the offsets are committed", zombie=True),
    Point("db.read", "the transaction in PostgreSQL is open, and what is decided is read", outage=True),
    Point("handled", "the handler has returned, and nothing of it is committed", zombie=True),
    Point("db.sent", "COMMIT is sent to PostgreSQL, and its answer not read", outage=True),
    Point("db.committed", "the decisions are committed, and nothing is published", zombie=True, outage=True),
    Point("before_begin", "the Kafka transaction is about to begin"),
    Point("begun", "the Kafka transaction has begun"),
    Point("produced_half", "half of the records are handed to the client", needs_output=True),
    Point("produced", "all records are handed to the client", zombie=True),
    Point("flushed", "the offsets are about to be sent"),
    Point("offsets_sent", "records and offsets are sent, and the Kafka transaction is not committed", zombie=True),
    Point("committed", "the Kafka transaction is committed", zombie=True),
    Point("advanced", "the next batch is about to be read"),
    Point("dlq.isolated", "the handler has refused a record, and its dead letter is made", Way.POISON, hit=1),
    Point("dlq.produced", "a dead letter is handed to the client", Way.POISON, hit=1),
    Point("revoked", "the group takes the partitions away", Way.REBALANCE, hit=1),
    Point("stop.seen", "SIGTERM has come, and the last batch is finished", Way.STOP, hit=1),
    Point("stop.closed", "the clients are closed", Way.STOP, hit=1),
)
