"""SQL of the hot path: two pipelined trips per batch. Constraints carry the guarantee.

Trip 1 reads without locks. Trip 2 is one transaction, COMMIT queued with it: decisions by ascending order id, replays
by ascending order id, then stock by ascending SKU, locked late. That is the one lock order everywhere; two orders are
a deadlock that waits. If another worker was faster, the primary key, the CHECK or the row count says so, the server
undoes all, and the batch is decided anew on what it sees then.

No ON CONFLICT here: with COMMIT queued it would skip the row but not the decrement.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from common import failpoints
from common.events.orders import OrderLine
from common.kafka.records import Partition
from inventory_service.core.replay import Coordinate, Decision


@dataclass(frozen=True, slots=True)
class NewDecision:
    """A decision to record, with what its row holds beyond `Decision`. `reason` is None for a reservation."""

    decision: Decision
    reason: str | None
    lines: Sequence[OrderLine]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What trip 1 saw: units available per SKU that exists, and decisions by order id."""

    available: Mapping[str, int]
    known: Mapping[str, Decision]


_AVAILABLE = "SELECT sku, available FROM inventory.stock WHERE sku = ANY(%b::text[])"
_KNOWN = """
SELECT order_id::text, verdict = 1, event_id::text, event, topic, partition, "offset",
    round(extract(epoch FROM decided_at) * 1000)::bigint
FROM inventory.decision WHERE order_id = ANY(%b::text[]::uuid[])
"""
_RECORD = """
INSERT INTO inventory.decision
    (order_id, verdict, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at)
SELECT n.order_id::uuid, n.verdict, n.reason, n.event_id::uuid, n.event, n.topic, n.partition, n."offset",
    n.skus::text[], n.qtys::int[], to_timestamp(n.decided_at_ms / 1000.0)
FROM unnest(%b::text[], %b::smallint[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::int[], %b::bigint[],
    %b::text[], %b::text[], %b::bigint[])
    AS n(order_id, verdict, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at_ms)
"""
_COUNT_REPLAYS = """
UPDATE inventory.decision d SET replays = replays + 1
FROM (SELECT order_id FROM inventory.decision WHERE order_id = ANY(%b::text[]::uuid[]) ORDER BY order_id FOR UPDATE) k
WHERE d.order_id = k.order_id
"""
_LOCK = """
SELECT 1 / (count(*) = %b)::int
FROM (SELECT 1 FROM inventory.stock WHERE sku = ANY(%b::text[]) ORDER BY sku FOR UPDATE) l
"""
_TAKE = """
UPDATE inventory.stock s SET available = s.available - t.units
FROM unnest(%b::text[], %b::int[]) AS t(sku, units) WHERE s.sku = t.sku
"""


def read(connection: psycopg.Connection, *, skus: Collection[str], order_ids: Collection[str]) -> Snapshot:
    """Return stock and decisions as they are now; no locks."""
    with connection.pipeline(), connection.cursor(binary=True) as stock, connection.cursor(binary=True) as decisions:
        stock.execute(_AVAILABLE, [list(skus)])
        decisions.execute(_KNOWN, [list(order_ids)])
        return Snapshot(
            available=dict(stock.fetchall()),
            known={row[0]: _decision(*row) for row in decisions.fetchall()},
        )


def record(
    connection: psycopg.Connection,
    *,
    new: Sequence[NewDecision],
    replayed: Collection[str],
    taken: Mapping[str, int],
) -> None:
    """Record decisions, count replays and take stock, all in one transaction, committed when this returns.

    Replays are counted also when nothing is new: a transaction that writes nothing does not wait for the standby, and
    an event could outlive its row. Raises psycopg.Error; then nothing of it is committed, unless the connection was
    lost at COMMIT: the caller finds out by reading again.
    """
    skus = sorted(taken)
    with connection.pipeline() as pipeline, connection.cursor(binary=True) as cursor:
        cursor.execute("BEGIN")
        if new:
            cursor.execute(_RECORD, _columns(sorted(new, key=lambda row: row.decision.order_id)))
        if replayed:
            cursor.execute(_COUNT_REPLAYS, [list(replayed)])
        if skus:
            cursor.execute(_LOCK, [len(skus), skus])
            cursor.execute(_TAKE, [skus, [taken[sku] for sku in skus]])
        cursor.execute("COMMIT")
        pipeline.sync()
        failpoints.point("inventory:db.sent")


def _decision(
    order_id: str,
    reserved: bool,  # noqa: FBT001 - a column
    event_id: str,
    event: bytes,
    topic: str,
    partition: int,
    offset: int,
    decided_at_ms: int,
) -> Decision:
    owner = Coordinate(Partition(topic, partition), offset)
    return Decision(order_id, reserved, event_id, event, owner, decided_at_ms)


def _columns(new: Sequence[NewDecision]) -> list[list[object]]:
    """Return the rows as one list per column, in the order of `_RECORD`."""
    decisions = [row.decision for row in new]
    return [
        [decision.order_id for decision in decisions],
        [int(decision.reserved) for decision in decisions],
        [row.reason for row in new],
        [decision.event_id for decision in decisions],
        [decision.event for decision in decisions],
        [decision.owner.partition.topic for decision in decisions],
        [decision.owner.partition.number for decision in decisions],
        [decision.owner.offset for decision in decisions],
        [_array(line.sku for line in row.lines) for row in new],
        ["{" + ",".join(str(line.quantity) for line in row.lines) + "}" for row in new],
        [decision.decided_at_ms for decision in decisions],
    ]


def _array(texts: Iterable[str]) -> str:
    """Return one quoted array literal: `unnest` would flatten nested arrays."""
    return "{" + ",".join('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts) + "}"
