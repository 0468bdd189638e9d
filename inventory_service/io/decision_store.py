"""SQL of the hot path: two pipelined trips per batch. Constraints carry the guarantee.

Trip 1 reads without locks. Trip 2 is one transaction, COMMIT queued with it: decisions by ascending order id, replays
by ascending order id, then stock by ascending SKU, locked late. That is the one lock order everywhere; two orders are
a deadlock that waits. If another worker was faster, the primary key, the CHECK or the row count says so, the server
undoes all, and the batch is decided again on what it sees then.

A rule that asks what customers hold has their decisions numbered: `turn` is 1, 2, 3 per customer, and unique. A worker
that decides on a history that has grown meanwhile takes a number that is taken. New decisions then go by ascending
customer and turn; the same order has the same customer, so this too is one order on all paths.

No ON CONFLICT here: with COMMIT queued it would skip the row but not the decrement.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import psycopg

from common.events import line_texts
from common.events.orders import OrderLine
from inventory_service.core.replay import Coordinate, Decision
from inventory_service.core.rule import Holding
from inventory_service.core.turns import Turn
from onceloop import failpoints
from onceloop.postgres.retry import DIVISION_BY_ZERO
from onceloop.records import Partition

GUARDS = frozenset({"decision_pkey", "decision_turn", "stock_available_ge_0", DIVISION_BY_ZERO})
"""What fails when another worker was faster: it decided the order or another one of the customer, took the stock, or
a row of the lock is gone."""


class NewDecision(NamedTuple):
    """A decision to record, with what its row holds beyond `Decision`.

    `lines`: what is held, or what was asked for in vain. `turn`: None unless the rule asked what the customer holds.
    """

    decision: Decision
    lines: Sequence[OrderLine]
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What trip 1 saw: units available per SKU that exists, and decisions by order id.

    Of the customers that were asked for: what they hold, and the highest turn of each that has one.
    """

    available: Mapping[str, int]
    known: Mapping[str, Decision]
    held: Mapping[Holding, int] = field(default_factory=dict)
    turns: Mapping[str, int] = field(default_factory=dict)


class Decisions(Protocol):
    """What a step asks of this module, which is the one that does it; a model of the database does it too."""

    def read(
        self,
        connection: psycopg.Connection,
        *,
        skus: Collection[str],
        order_ids: Collection[str],
        user_ids: Collection[str] = (),
    ) -> Snapshot:
        """See `read`."""

    def decided(self, connection: psycopg.Connection, order_ids: Collection[str]) -> set[str]:
        """See `decided`."""

    def recording(
        self,
        connection: psycopg.Connection,
        *,
        new: Sequence[NewDecision],
        replayed: Collection[str],
        taken: Mapping[str, int],
    ) -> AbstractContextManager[None]:
        """See `recording`."""


# Texts travel joined, one parameter per column, and the server splits them: a list would be encoded value by value in
# Python. Ids hold no comma; SKUs hold no control character, so the unit separator (0x1F) divides them, and the record
# separator (0x1E) those of one order: `unnest` would flatten nested arrays.
_AVAILABLE = r"SELECT sku, available FROM inventory.stock WHERE sku = ANY(string_to_array(%b, E'\x1f'))"
_KNOWN = """
SELECT order_id::text, reason, event_id::text, event, topic, partition, "offset",
    round(extract(epoch FROM decided_at) * 1000)::bigint
FROM inventory.decision WHERE order_id = ANY(string_to_array(%b, ',')::uuid[])
"""
# One statement, so one snapshot: a turn that is newer than what is held would hide what came in between.
_HISTORY = r"""
SELECT d.user_id, line.sku, sum(line.qty)::bigint, coalesce(max(d.turn), 0)
FROM inventory.decision d LEFT JOIN LATERAL unnest(d.skus, d.qtys) AS line (sku, qty) ON d.verdict = 1
WHERE d.user_id = ANY(string_to_array(%b, E'\x1f')) GROUP BY d.user_id, line.sku
"""
_DECIDED = """
SELECT order_id::text FROM inventory.decision WHERE order_id = ANY(string_to_array(%b, ',')::uuid[])
"""
_RECORD = r"""
INSERT INTO inventory.decision
    (order_id, verdict, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at, user_id, turn)
SELECT n.order_id, (n.reason IS NULL)::int, n.reason, n.event_id, n.event, n.topic, n.partition, n."offset",
    string_to_array(n.skus, E'\x1e'), string_to_array(n.qtys, ',')::int[], to_timestamp(n.decided_at_ms / 1000.0),
    n.user_id, n.turn
FROM unnest(string_to_array(%b, ',')::uuid[], string_to_array(%b, ',', ''), string_to_array(%b, ',')::uuid[],
    %b::bytea[], string_to_array(%b, ','), string_to_array(%b, ',')::int[], string_to_array(%b, ',')::bigint[],
    string_to_array(%b, E'\x1f'), string_to_array(%b, E'\x1f'), string_to_array(%b, ',')::bigint[],
    string_to_array(%b, E'\x1f'), string_to_array(%b, ',')::int[])
    AS n(order_id, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at_ms, user_id, turn)
"""
_COUNT_REPLAYS = """
UPDATE inventory.decision d SET replays = replays + 1
FROM (SELECT order_id FROM inventory.decision WHERE order_id = ANY(string_to_array(%b, ',')::uuid[])
    ORDER BY order_id FOR UPDATE) k
WHERE d.order_id = k.order_id
"""
_LOCK = r"""
SELECT 1 / (count(*) = %b)::int
FROM (SELECT 1 FROM inventory.stock WHERE sku = ANY(string_to_array(%b, E'\x1f')) ORDER BY sku FOR UPDATE) l
"""
_TAKE = r"""
UPDATE inventory.stock s SET available = s.available - t.units
FROM unnest(string_to_array(%b, E'\x1f'), string_to_array(%b, ',')::int[]) AS t(sku, units) WHERE s.sku = t.sku
"""
_SEPARATOR, _LINE_SEPARATOR = "\x1f", "\x1e"


def read(
    connection: psycopg.Connection,
    *,
    skus: Collection[str],
    order_ids: Collection[str],
    user_ids: Collection[str] = (),
) -> Snapshot:
    """Return stock, decisions, and the history of these customers as they are now; no locks."""
    with (
        connection.pipeline(),
        connection.cursor(binary=True) as stock,
        connection.cursor(binary=True) as decisions,
        connection.cursor(binary=True) as history,
    ):
        stock.execute(_AVAILABLE, [_SEPARATOR.join(skus)])
        decisions.execute(_KNOWN, [",".join(order_ids)])
        if user_ids:
            history.execute(_HISTORY, [_SEPARATOR.join(user_ids)])
        rows = history.fetchall() if user_ids else []
        return Snapshot(
            available=dict(stock.fetchall()),
            known={row[0]: _decision(*row) for row in decisions.fetchall()},
            held={Holding(user_id, sku): units for user_id, sku, units, _ in rows if sku is not None},
            turns=_highest_turns(rows),
        )


def decided(connection: psycopg.Connection, order_ids: Collection[str]) -> set[str]:
    """Return those of these orders that have a decision."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(_DECIDED, [",".join(order_ids)])
        return {order_id for (order_id,) in cursor}


@contextmanager
def recording(
    connection: psycopg.Connection,
    *,
    new: Sequence[NewDecision],
    replayed: Collection[str],
    taken: Mapping[str, int],
) -> Iterator[None]:
    """Record decisions, count replays and take stock, all in one transaction: committed when the block has ended.

    The block runs while the server works; all is sent by then, COMMIT included, so nothing in it holds up a lock.
    Replays are counted also when nothing is new: a transaction that writes nothing does not wait for the standby, and
    an event could outlive its row. Raises psycopg.Error; then nothing of it is committed, unless the connection was
    lost at COMMIT: the caller finds out by reading again.
    """
    skus = sorted(taken)
    with connection.pipeline() as pipeline, connection.cursor(binary=True) as cursor:
        cursor.execute("BEGIN")
        if new:
            cursor.execute(_RECORD, _columns(sorted(new, key=_lock_order(new))))
        if replayed:
            cursor.execute(_COUNT_REPLAYS, [",".join(replayed)])
        if skus:
            cursor.execute(_LOCK, [len(skus), _SEPARATOR.join(skus)])
            cursor.execute(_TAKE, [_SEPARATOR.join(skus), ",".join(str(taken[sku]) for sku in skus)])
        cursor.execute("COMMIT")
        yield
        pipeline.sync()
        failpoints.point("inventory:db.sent")


def _highest_turns(rows: Iterable[tuple[str, str | None, int | None, int]]) -> dict[str, int]:
    highest: dict[str, int] = {}
    for user_id, _, _, turn in rows:
        highest[user_id] = max(turn, highest.get(user_id, 0))
    return highest


def _lock_order(new: Sequence[NewDecision]) -> Callable[[NewDecision], Any]:
    """Return by what the rows of one batch are sorted; all have a turn, or none has one."""
    return attrgetter("turn" if new[0].turn else "decision.order_id")


def _decision(
    order_id: str,
    reason: str | None,
    event_id: str,
    event: bytes,
    topic: str,
    partition: int,
    offset: int,
    decided_at_ms: int,
) -> Decision:
    owner = Coordinate(Partition(topic, partition), offset)
    return Decision(order_id, reason, event_id, event, owner, decided_at_ms)


def _columns(new: Sequence[NewDecision]) -> list[object]:
    """Return the rows as one parameter per column, in the order of `_RECORD`."""
    decisions, lines, turns = zip(*new, strict=True)
    order_ids, reasons, event_ids, events, owners, times = zip(*decisions, strict=True)
    return [
        ",".join(order_ids),
        ",".join([reason or "" for reason in reasons]),
        ",".join(event_ids),
        list(events),
        ",".join([partition.topic for partition, _ in owners]),
        ",".join([str(partition.number) for partition, _ in owners]),
        ",".join([str(offset) for _, offset in owners]),
        *line_texts.BEST(lines, _SEPARATOR, _LINE_SEPARATOR),
        ",".join(map(str, times)),
        *(_turn_columns(turns) if turns[0] else (None, None)),  # NULL for the column: `unnest` fills up with NULL
    ]


def _turn_columns(turns: Sequence[Turn]) -> tuple[str, str]:
    return _SEPARATOR.join([user_id for user_id, _ in turns]), ",".join([str(number) for _, number in turns])
