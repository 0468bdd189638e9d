"""What a pipeline left behind, as values: records of the topics, rows of the tables, offsets of the readers.

Rows are named tuples, since a million of each must fit: bytes are kept as digests, ids as texts that are shared.
Topics go by the name in the table of topics, without a namespace. Offsets "below" one are all smaller than it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from audit.terms import Coordinate, KeyHolder, Lines, Offsets, Spot, Stock, Sums, Tally, Turns
from audit.testimony import Testimony
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION_SENT, ORDERS_CREATED


class Verdict(Enum):
    """What was decided, by the topic that says so."""

    RESERVED = INVENTORY_RESERVED.name
    FAILED = INVENTORY_FAILED.name


class Created(NamedTuple):
    """A record of `orders.created` that holds a possible order. `lines`: a fingerprint of `asked`.

    `request`: what stands for user and lines in the row of an Idempotency-Key; empty for an order of a newer version.
    Times here and below: milliseconds since the epoch.
    """

    partition: int
    offset: int
    order_id: str
    digest: bytes
    lines: int
    user: str = ""
    placed_at: int = 0
    request: bytes = b""
    asked: Lines = ()

    @property
    def at(self) -> Coordinate:
        """Return its coordinate."""
        return Coordinate(ORDERS_CREATED.name, self.partition, self.offset)


class Poison(NamedTuple):
    """A record of `orders.created` that holds no order, and why. `digest` is over key and value."""

    at: Coordinate
    digest: bytes
    why: str
    headers: bytes = b""


class Lacking(NamedTuple):
    """Why an order failed: the reason, and the first line that lacked stock."""

    reason: str | None
    sku: str | None
    requested: int | None
    available: int | None


class Outcome(NamedTuple):
    """A record of an outcome topic. `source`: the coordinate in its headers; `header_id`: the event id there.

    `minute`: the first millisecond of the minute in which the order was placed; `units`: the sum over its lines.
    `lacking` is None for a reservation.
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
    user: str = ""
    lines: int = 0
    placed_at: int = 0
    decided_at: int = 0
    lacking: Lacking | None = None

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
    user: str = ""
    sent_at: int = 0

    @property
    def at(self) -> Coordinate:
        """Return its coordinate."""
        return Coordinate(NOTIFICATION_SENT.name, self.partition, self.offset)


class Partial(NamedTuple):
    """A record of `metrics.partials`: what `source`, read up to `until`, reported of a minute."""

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

    `digest` is over key and value, `value` over the value alone, `headers` over those that the record brought; `digest`
    is None where the record was too large to be copied, and the headers say so.
    """

    at: Coordinate
    source: Coordinate | None
    digest: bytes | None
    missing: tuple[str, ...]
    value: bytes = b""
    headers: bytes = b""


class Undecodable(NamedTuple):
    """A record that a service of ours wrote and that cannot be read."""

    at: Coordinate
    why: str


class Misfit(NamedTuple):
    """A record whose key or headers say something else than its value. `order_id` is empty where it has none."""

    at: Coordinate
    order_id: str
    what: str


class Decision(NamedTuple):
    """A row of `inventory.decision`. `lines` is the fingerprint of `row_lines`, `units` the sum over them.

    `user`: the customer whose holdings it counts in; None where the rule of allocation did not ask for any.
    """

    verdict: Verdict
    event_id: str
    digest: bytes
    owner: Coordinate
    lines: int
    row_lines: Lines
    replays: int
    reason: str | None = None
    decided_at: int = 0
    units: int = 0
    user: str | None = None


class Status(NamedTuple):
    """A row of `orders.order_status`. `lines` is a fingerprint, None where the row has none."""

    status: str
    notified_at: int | None = None
    user: str = ""
    lines: int | None = 0
    placed_at: int | None = 0
    decided_at: int | None = 0
    lacking: Lacking | None = None


class LedgerRow(NamedTuple):
    """A row of `notification.ledger`."""

    kind: str
    channel: str
    event_id: str
    state: str
    user: str = ""
    message_id: str = ""
    sent_at: int | None = None


class Key(NamedTuple):
    """A row of `orders.idempotency_key`. `digest` stands for the event, `request` for what was asked for.

    `acknowledged`: the broker confirmed the order, so the client was answered "accepted".
    """

    order_id: str
    digest: bytes
    user: str = ""
    request: bytes = b""
    acknowledged: bool = True


class Stall(NamedTuple):
    """A partition whose stable end stayed below its end: a transaction that no process ends."""

    at: Coordinate
    end: int


class Unfinished(NamedTuple):
    """An accepted record that had not come through when the wait was over, and what it lacks; poison has no order.

    `why`: who has not read which record. `lost`: no group will ever read it.
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
class Notes:
    """What tables note of topics, of the snapshot of the tables; and what bounds it, asked for afterwards.

    `answered`: `inventory.progress`; `starts`: `inventory.start`; `topic_ids`: `inventory.input_topic`, by topic.
    """

    answered: Offsets
    starts: Offsets
    topic_ids: Mapping[str, str]
    committed: Offsets
    ends: Offsets
    topic_ids_now: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Everything that is judged. Mappings go by order id.

    Reading order makes it sound on a live system: acknowledged keys, offsets, topics (from `begins` to `ends`),
    offsets again, then all tables in one snapshot. So whatever a record rests on is in the tables, and a row may be
    ahead of the records. `key_orders`, the order that each key stands for, is of that snapshot too, and empty where
    there is no testimony of requests.
    """

    created: Mapping[str, tuple[Created, ...]] = field(default_factory=dict)
    poison: tuple[Poison, ...] = ()
    outcomes: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)
    sent: Mapping[str, tuple[Sent, ...]] = field(default_factory=dict)
    partials: tuple[Partial, ...] = ()
    totals: tuple[Total, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    undecodable: tuple[Undecodable, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    first_answers: Mapping[tuple[Spot, Spot], int] = field(default_factory=dict)
    """Per partition of outcomes and of orders: the lowest offset there that an event here answers."""
    stalls: tuple[Stall, ...] = ()
    begins: Offsets = field(default_factory=dict)
    ends: Offsets = field(default_factory=dict)

    keys: tuple[Key, ...] = ()
    key_orders: Mapping[KeyHolder, str] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    stock: tuple[Stock, ...] = ()
    tallies: tuple[Tally, ...] = ()
    turns: tuple[Turns, ...] = ()
    statuses: Mapping[str, Status] = field(default_factory=dict)
    ledger: Mapping[str, tuple[LedgerRow, ...]] = field(default_factory=dict)
    notes: "Notes | None" = None

    counting: Mapping[Spot, Counting] = field(default_factory=dict)
    """How far the metrics have counted, as of before the topics were read; empty where none ever counted."""
    added_to: int = 0
    """How far the partials were added up, as of before too."""
    minutes_over: bool = False
    """Every minute was waited for, and no order came in any more: the totals should be complete."""
    overdue: Offsets = field(default_factory=dict)
    overdue_ms: int = 0
    """Records of outcomes below these offsets, of minutes that ended by then, should be counted by now."""

    recorded_to: Offsets = field(default_factory=dict)
    """Below these offsets outcomes are remembered: they stand in the two sums that follow, whatever `outcomes` has."""
    recorded: Mapping[tuple[Spot, int], Sums] = field(default_factory=dict)
    waiting: Mapping[tuple[Spot, int], int] = field(default_factory=dict)

    progress: Progress = field(default_factory=Progress)
    unfinished: tuple[Unfinished, ...] = ()
    testimony: Testimony | None = None

    def unread(self, *topics: str) -> bool:
        """Return True if an open transaction hides records of these topics: what is missing may be behind it."""
        return any(stall.at.topic in topics for stall in self.stalls)

    def trimmed(self, *topics: str) -> bool:
        """Return True if retention has taken records of these topics: what is missing may be gone, not lost.

        What stood below the heads that a run reports was never part of its history.
        """
        return any(self.head(spot) for spot in self.begins if spot.topic in topics)

    def head(self, spot: Spot) -> int:
        """Return the offset below which retention has taken records of this partition's history; 0 if it has not."""
        reported = self.testimony.heads.get(spot, 0) if self.testimony else 0
        begin = self.begins.get(spot, 0)
        return begin if begin > reported else 0
