"""What is known of a run beside topics and tables: from clients, producers, samplers, logs, a second reader. Values."""

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from audit.terms import Coordinate, Lines, Offsets, Stock
from common.topics import ORDERS_CREATED


class End(Enum):
    """How a request ended, as far as its client knows."""

    OK = "ok"
    """Accepted: the answer says so."""
    FAIL = "fail"
    """Refused for good."""
    INFO = "info"
    """Unknown: no order, or one."""


class Request(NamedTuple):
    """One request over HTTP and its end. `lines`: what is ordered, empty where the body holds no order.

    `body` and `reply` are digests. `ended` is None if no end was written. `sent`: something may have reached the
    server. `order_id` and `reply` are empty unless it ended `ok`; `why` says what went wrong on the way.
    """

    id: str
    user: str
    key: str | None
    lines: Lines
    body: str
    began: float
    ended: float | None = None
    end: End = End.INFO
    status: int | None = None
    order_id: str = ""
    reply: str = ""
    sent: bool = True
    why: str = ""


class Kind(Enum):
    """What a record of a direct load is meant to be."""

    ORDER = "order"
    COPY = "copy"
    POISON = "poison"


class Written(NamedTuple):
    """One record of a direct load. `partition` and `offset` are None if it was not acknowledged: it may be there.

    `what` says more of the kind (next to itself, bad magic); `digest` is over key and value, in hexadecimal digits,
    and given for poison alone.
    """

    kind: Kind
    what: str
    order_id: str
    user: str
    partition: int | None
    offset: int | None
    digest: str = ""

    @property
    def at(self) -> Coordinate | None:
        """Return where it stands, if that is known."""
        if self.partition is None or self.offset is None:
            return None
        return Coordinate(ORDERS_CREATED.name, self.partition, self.offset)


class Snapshot(NamedTuple):
    """All stock rows as of one moment of a run. `time`: by the machine's monotonic clock, in seconds."""

    time: float
    stock: tuple[Stock, ...]


class Leak(NamedTuple):
    """A line of a log that holds what no log may hold; never the thing itself."""

    file: str
    line: int
    what: str


class Rereading(NamedTuple):
    """What a second reading of all topics found, by another process with other settings (K2), and a third (U).

    `records`: how many were compared; `differing`: where the two read other things, and what; `uncommitted`: records
    that only a reader of uncommitted ones sees.
    """

    records: int
    differing: tuple[tuple[Coordinate, str], ...]
    uncommitted: frozenset[Coordinate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """All that was testified. `complete`: the requests and what was written are all that ever put orders in.

    `log_lines` counts what was searched. `rereading` is None without a second reading. `heads`: where history began
    on partitions that held no order before. `restocked`: the SKUs whose stock was changed by hand.
    `grown`: from when to when keys moved to other partitions, in turn.
    """

    requests: tuple[Request, ...] = ()
    written: tuple[Written, ...] = ()
    complete: bool = False
    snapshots: tuple[Snapshot, ...] = ()
    log_lines: int = 0
    leaks: tuple[Leak, ...] = ()
    rereading: Rereading | None = None
    heads: Offsets = field(default_factory=dict)
    restocked: frozenset[str] = frozenset()
    grown: tuple[tuple[float, float], ...] = ()

    def era(self, began: float, ended: float) -> int | None:
        """Return between which growths this lies, counted from 0; None if it met one."""
        if any(began < until and since < ended for since, until in self.grown):
            return None
        return sum(until <= began for _, until in self.grown)
