"""The status projection: what is known of each order, and the offsets up to which it is known, in one transaction.

A batch is applied where its projection left the stored position, and nowhere else: the position is locked and compared
first. Higher, and another projection went further; lower, and the tables were restored from an older backup, which
lacks what lies between. The upsert is the join of `core/status.py` in SQL, so that even rows that are written at the
same time from different partitions lose nothing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from common.events.inventory import Reason
from common.events.orders import OrderLine
from common.postgres.outage import outage_is_busy
from onceloop.errors import Busy
from onceloop.kafka.topic_mark import mark
from onceloop.postgres.retry import DIVISION_BY_ZERO
from onceloop.records import CommitPoint, Partition
from order_service.core.status import Lacking, OrderStatus, Status
from order_service.io.tables import order_status as table
from order_service.io.tables import projection_offset as positions

# Built once: what SQLAlchemy makes of a statement costs more than the statement.
_KNOWN = sa.select(table).where(table.c.placed_at.is_not(None))
"""Orders of which more than a notification is known."""
_ONE = _KNOWN.where(table.c.order_id == sa.bindparam("of_order"))
# Positions first, in the one order everywhere, then statuses by ascending order id. One that another process moved
# makes the count fall short; then the server undoes all of it.
_APPLY = sa.text(
    """
    WITH following AS MATERIALIZED (
        SELECT * FROM jsonb_to_recordset(CAST(:following AS jsonb))
            AS f (topic text, partition integer, left_at bigint, next_offset bigint, topic_id text)
    ), held AS MATERIALIZED (
        SELECT p.topic, p.partition FROM orders.projection_offset p JOIN following f USING (topic, partition)
        WHERE p.next_offset = f.left_at ORDER BY p.topic, p.partition FOR UPDATE OF p
    ), moved AS (
        UPDATE orders.projection_offset p SET next_offset = f.next_offset, topic_id = f.topic_id
        FROM following f JOIN held USING (topic, partition)
        WHERE p.topic = f.topic AND p.partition = f.partition
        RETURNING 1
    ), begun AS (
        INSERT INTO orders.projection_offset (topic, partition, next_offset, topic_id)
        SELECT topic, partition, next_offset, topic_id FROM following WHERE left_at IS NULL ORDER BY topic, partition
        ON CONFLICT (topic, partition) DO NOTHING
        RETURNING 1
    ), proof AS MATERIALIZED (
        SELECT 1 / ((SELECT count(*) FROM moved) + (SELECT count(*) FROM begun)
            = (SELECT count(*) FROM following))::integer AS whole
    ), joined AS (
        INSERT INTO orders.order_status AS known (order_id, user_id, status, reason, sku, requested, available,
            lines, placed_at, decided_at, notified_at)
        SELECT order_id, user_id, status, reason, sku, requested, available, lines, to_timestamp(placed_ms / 1000.0),
            to_timestamp(decided_ms / 1000.0), to_timestamp(notified_ms / 1000.0)
        FROM proof, jsonb_to_recordset(CAST(:statuses AS jsonb))
            AS s (order_id uuid, user_id text, status text, reason text, sku text, requested integer,
                available integer, lines jsonb, placed_ms bigint, decided_ms bigint, notified_ms bigint)
        WHERE whole = 1 ORDER BY order_id
        ON CONFLICT (order_id) DO UPDATE SET
            status = CASE known.status WHEN 'pending' THEN excluded.status ELSE known.status END,
            reason = CASE known.status WHEN 'pending' THEN excluded.reason ELSE known.reason END,
            sku = CASE known.status WHEN 'pending' THEN excluded.sku ELSE known.sku END,
            requested = CASE known.status WHEN 'pending' THEN excluded.requested ELSE known.requested END,
            available = CASE known.status WHEN 'pending' THEN excluded.available ELSE known.available END,
            decided_at = CASE known.status WHEN 'pending' THEN excluded.decided_at ELSE known.decided_at END,
            lines = CASE known.status WHEN 'pending' THEN COALESCE(excluded.lines, known.lines) ELSE known.lines END,
            placed_at = COALESCE(known.placed_at, excluded.placed_at),
            notified_at = LEAST(known.notified_at, excluded.notified_at)
    )
    SELECT whole FROM proof
    """
)
"""Join statuses into the table. LEAST ignores NULL: the earliest notification counts."""

_NO_IDS: Mapping[str, str] = MappingProxyType({})


class StatusStore:
    """The tables `orders.order_status` and `orders.projection_offset`, through an engine that commits by itself.

    Every method raises Busy in an outage.

    `topic_ids`: topic name on the cluster -> the id that is stored beside its offsets; a reader needs none.
    """

    def __init__(self, engine: sa.Engine, topic_ids: Mapping[str, str] = _NO_IDS) -> None:
        self._engine = engine
        self._topic_ids = topic_ids

    def answers(self) -> None:
        """Return if the database answers."""
        with outage_is_busy(), self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    def find(self, order_id: str) -> OrderStatus | None:
        """Return an order, or None while neither the order nor its outcome was read."""
        with outage_is_busy(), self._engine.connect() as connection:
            found = connection.execute(_ONE, {"of_order": UUID(order_id)}).one_or_none()
        return None if found is None else _status(found)

    def page(self, user_ids: Collection[str], *, before: str | None, limit: int) -> list[OrderStatus]:
        """Return up to `limit` orders of a user, newest first, older than the order `before`.

        `user_ids`: the spellings of one user, rarely more than one. Order ids are UUIDv7, so they sort by the time of
        placement.
        """
        wanted = _KNOWN.where(table.c.user_id.in_(sorted(user_ids))).order_by(table.c.order_id.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(table.c.order_id < UUID(before))
        with outage_is_busy(), self._engine.connect() as connection:
            return [_status(row) for row in connection.execute(wanted)]

    def positions(self, partitions: frozenset[Partition]) -> Mapping[Partition, CommitPoint]:
        """Return the next offset to read per partition, marked with its topic; one never stored is left out."""
        with outage_is_busy(), self._engine.connect() as connection:
            return _read_positions(connection, sorted(partitions))

    def apply(
        self, statuses: Sequence[OrderStatus], following: Mapping[Partition, int], *, left: Mapping[Partition, int]
    ) -> None:
        """Store what a batch reported and how far it went: both or nothing.

        `statuses`: one per order, by ascending order id. `following`: the next offset to read per partition of the
        batch. `left`: the same as this projection found or stored it last; one that was never stored is left out.
        Raises Busy too if another position stands there now.
        """
        parameters = {
            "following": json.dumps([_following(at, left.get(at), following[at], self._topic_ids) for at in following]),
            "statuses": json.dumps([_row(status) for status in statuses]),
        }
        with outage_is_busy(), self._engine.connect() as connection:
            try:
                connection.execute(_APPLY, parameters)
            except sa.exc.DataError as error:
                if getattr(error.orig, "sqlstate", None) != DIVISION_BY_ZERO:
                    raise
                partitions = sorted(following)
                raise Busy(_moved(partitions, _read_positions(connection, partitions), left)) from error


def _positions_of(partitions: Sequence[Partition]) -> sa.Select[Any]:
    key = (positions.c.topic, positions.c.partition)
    columns = (*key, positions.c.next_offset, positions.c.topic_id)
    return sa.select(*columns).where(sa.tuple_(*key).in_(partitions)).order_by(*key)


def _read_positions(connection: sa.Connection, partitions: Sequence[Partition]) -> dict[Partition, CommitPoint]:
    rows = connection.execute(_positions_of(partitions))
    return {
        Partition(row.topic, row.partition): CommitPoint(row.next_offset, mark(row.topic_id) if row.topic_id else "")
        for row in rows
    }


def _moved(
    partitions: Sequence[Partition], stored: Mapping[Partition, CommitPoint], left: Mapping[Partition, int]
) -> str:
    """Return which of these positions is not the one that this projection left."""
    for at in partitions:
        position = stored[at].offset if at in stored else None
        if position != left.get(at):
            return f"{at} stands at {position}, this projection left it at {left.get(at)}"
    return "a position was moved by another projection, and back"


def _following(
    at: Partition, left_at: int | None, next_offset: int, topic_ids: Mapping[str, str]
) -> Mapping[str, str | int | None]:
    return {
        "topic": at.topic,
        "partition": at.number,
        "left_at": left_at,
        "next_offset": next_offset,
        "topic_id": topic_ids.get(at.topic, ""),
    }


def _row(status: OrderStatus) -> dict[str, Any]:
    lacking = status.lacking
    return {
        "order_id": status.order_id,
        "user_id": status.user_id,
        "status": status.status,
        "reason": status.reason,
        "sku": lacking and lacking.sku,
        "requested": lacking and lacking.requested,
        "available": lacking and lacking.available,
        "lines": status.lines
        if status.lines is None
        else [{"sku": line.sku, "quantity": line.quantity} for line in status.lines],
        "placed_ms": status.placed_at_ms,
        "decided_ms": status.decided_at_ms,
        "notified_ms": status.notified_at_ms,
    }


def _epoch_ms(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


def _status(row: sa.Row[Any]) -> OrderStatus:
    return OrderStatus(
        order_id=str(row.order_id),
        user_id=row.user_id,
        status=Status(row.status),
        lines=tuple(OrderLine(line["sku"], line["quantity"]) for line in row.lines or ()),
        placed_at_ms=_epoch_ms(row.placed_at),
        decided_at_ms=_epoch_ms(row.decided_at),
        reason=Reason(row.reason) if row.reason is not None else None,
        lacking=Lacking(row.sku, row.requested, row.available) if row.sku is not None else None,
        notified_at_ms=_epoch_ms(row.notified_at),
    )
