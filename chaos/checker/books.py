"""What a pipeline left behind, as values: records of the topics, rows of the tables, offsets of the readers.

Rows are named tuples, since a million of each must fit: bytes are kept as digests, ids as texts that are shared.
Topics go by the name in the table of topics, without a namespace. Offsets "below" one are all smaller than it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from chaos.checker.terms import Coordinate, KeyHolder, Lines, Offsets, Spot, Stock
from chaos.checker.testimony import Testimony
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION_SENT, ORDERS_CREATED


class Verdict(Enum):
    """What was decided, by the topic that says so."""

    RESERVED = INVENTORY_RESERVED.name
    FAILED = INVENTORY_FAILED.name


class Created(NamedTuple):
    """A record of `orders.created` that holds a possible order. `lines`: a fingerprint of SKUs and quantities."""

    partition: int
    offset: int
    order_id: str
    digest: bytes
    lines: int
    user: str = ""

    @property
    def at(self) -> Coordinate:
        """Return its coordinate."""
        return Coordinate(ORDERS_CREATED.name, self.partition, self.offset)


class Poison(NamedTuple):
    """A record of `orders.created` that holds no order, and why. `digest` is over key and value."""

    at: Coordinate
    digest: bytes
    why: str


class Outcome(NamedTuple):
    """A record of an outcome topic. `source`: the coordinate in its headers; `header_id`: the event id there.

    `minute`: the first millisecond of the minute in which the order was placed; `units`: the sum over its lines.
    """

    verdict: Verdict
    partition: int
    offset: int
    order_id: str
    event_id: str
    header_id: str
    digest: bytes
    source: Coordinate | None
    minute: int = 0
    units: int = 0

    @property
    def at(self) -> Coordinate:
        """Return its coordinate."""
        return Coordinate(self.verdict.value, self.partition, self.offset)


class Sent(NamedTuple):
    """A record of `notification.sent`. `source`: the outcome that its headers name, if they do."""

    partition: int
    offset: int
    order_id: str
    event_id: str
    kind: str
    channel: str
    source: Coordinate | None

    @property
    def at(self) -> Coordinate:
        """Return its coordinate."""
        return Coordinate(NOTIFICATION_SENT.name, self.partition, self.offset)


class Partial(NamedTuple):
    """A record of `metrics.partials`: what `source`, read up to `until`, told of a minute."""

    offset: int
    source: Spot
    minute: int
    reserved: int
    failed: int
    units: int
    late: int
    until: int


class Total(NamedTuple):
    """A record of `metrics`."""

    offset: int
    minute: int
    orders: int
    reserved: int
    failed: int
    units: int
    late: int
    revision: int


class Counting(NamedTuple):
    """What the metrics have committed beside the offset of a partition: it was read to p, minutes closed up to e."""

    read_to: int
    closed_to: int


class DeadLetter(NamedTuple):
    """A record of a dead letter topic. `source`: what its headers name, if they do; `missing`: headers it lacks.

    `digest` is over key and value; None where the record was too large to be copied, and the headers say so.
    """

    at: Coordinate
    source: Coordinate | None
    digest: bytes | None
    missing: tuple[str, ...]


class Undecodable(NamedTuple):
    """A record that a service of ours wrote and nobody can read."""

    at: Coordinate
    why: str


class Decision(NamedTuple):
    """A row of `inventory.decision`. `wanted` is kept for failed orders alone, `lines` is its fingerprint."""

    verdict: Verdict
    event_id: str
    digest: bytes
    owner: Coordinate
    lines: int
    wanted: Lines
    replays: int


class Status(NamedTuple):
    """A row of `orders.order_status`."""

    status: str
    notified: bool


class LedgerRow(NamedTuple):
    """A row of `notification.ledger`."""

    kind: str
    channel: str
    event_id: str
    state: str


class AcknowledgedKey(NamedTuple):
    """A row of `orders.idempotency_key` whose order the broker confirmed: the client was told "accepted"."""

    order_id: str
    digest: bytes


class Stall(NamedTuple):
    """A partition whose stable end stayed below its end: a transaction that nobody ends."""

    at: Coordinate
    end: int


class Unfinished(NamedTuple):
    """An accepted record that had not come through when the wait was over, and what it lacks; poison has no order.

    `why`: who has not read which record. `lost`: nobody will ever read it.
    """

    order_id: str
    lacks: str
    why: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far each reader is, in next offsets to read; a partition that is not named stands at 0.

    `inventory_before` and `notification` were read before the topics, `inventory_after` after them: what lies between
    is in flight, and nothing is asked of it. `projection` belongs to the snapshot of the tables.
    """

    inventory_before: Offsets = field(default_factory=dict)
    inventory_after: Offsets = field(default_factory=dict)
    notification: Offsets = field(default_factory=dict)
    projection: Offsets = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Everything that is judged. Mappings go by order id.

    Reading order makes it sound on a live system: acknowledged keys, offsets, topics (from `begins` to `ends`),
    offsets again, then all tables in one snapshot. So whatever a record rests on is in the tables, and a row may be
    ahead of the records. `key_orders`, the order that each key stands for, is of that snapshot too, and empty where
    nothing is told of requests.
    """

    created: Mapping[str, tuple[Created, ...]] = field(default_factory=dict)
    poison: tuple[Poison, ...] = ()
    outcomes: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)
    sent: Mapping[str, tuple[Sent, ...]] = field(default_factory=dict)
    partials: tuple[Partial, ...] = ()
    totals: tuple[Total, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    undecodable: tuple[Undecodable, ...] = ()
    stalls: tuple[Stall, ...] = ()
    begins: Offsets = field(default_factory=dict)
    ends: Offsets = field(default_factory=dict)

    keys: tuple[AcknowledgedKey, ...] = ()
    key_orders: Mapping[KeyHolder, str] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    stock: tuple[Stock, ...] = ()
    statuses: Mapping[str, Status] = field(default_factory=dict)
    ledger: Mapping[str, tuple[LedgerRow, ...]] = field(default_factory=dict)

    counting: Mapping[Spot, Counting] = field(default_factory=dict)
    """How far the metrics have counted, as of before the topics were read; empty where nobody ever counted."""
    added_to: int = 0
    """How far the partials were added up, as of before too."""
    minutes_over: bool = False
    """Every minute was waited for, and no order came in any more: the totals should be all that is to be told."""
    overdue: Offsets = field(default_factory=dict)
    overdue_ms: int = 0
    """Records of outcomes below these offsets, of minutes that ended by then, should be counted by now."""

    progress: Progress = field(default_factory=Progress)
    unfinished: tuple[Unfinished, ...] = ()
    testimony: Testimony | None = None

    def trimmed(self, *topics: str) -> bool:
        """Return True if retention has taken records of these topics: what is missing may be gone, not lost.

        What stood below the heads that a run tells of was never part of its history.
        """
        heads = self.testimony.heads if self.testimony else {}
        return any(begin > heads.get(spot, 0) for spot, begin in self.begins.items() if spot.topic in topics)
