"""The status projection: what is known of each order, and the offsets up to which it is known, in one transaction.

A batch is applied where its projection left the stored position, and nowhere else: the position is locked and compared
first. Higher, and another projection went further; lower, and the tables were restored from an older backup, which
lacks what lies between. The upsert is the join of `core/status.py` in SQL, so that even rows that are written at the
same time from different partitions lose nothing.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from common.events.inventory import Reason
from common.events.orders import OrderLine
from common.postgres.outage import outage_is_busy
from onceloop.errors import Busy
from onceloop.kafka.topic_mark import mark
from onceloop.records import CommitPoint, Partition
from order_service.core.status import Lacking, OrderStatus, Status
from order_service.io.tables import order_status as table
from order_service.io.tables import projection_offset as positions

_NO_IDS: Mapping[str, str] = MappingProxyType({})


class StatusStore:
    """The tables `orders.order_status` and `orders.projection_offset`. Every method raises Busy in an outage.

    `topic_ids`: topic name on the cluster -> the id that is stored beside its offsets; a reader needs none.
    """

    def __init__(self, engine: sa.Engine, topic_ids: Mapping[str, str] = _NO_IDS) -> None:
        self._engine = engine
        self._topic_ids = topic_ids
        # Said once more where it matters: an engine that commits by itself would tear status and offsets apart.
        self._transactions = engine.execution_options(isolation_level="READ COMMITTED")

    def answers(self) -> None:
        """Return if the database answers."""
        with outage_is_busy(), self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    def find(self, order_id: str) -> OrderStatus | None:
        """Return an order, or None while neither the order nor its outcome was read."""
        with outage_is_busy(), self._engine.connect() as connection:
            found = connection.execute(_known().where(table.c.order_id == UUID(order_id))).one_or_none()
        return None if found is None else _status(found)

    def page(self, user_ids: Collection[str], *, before: str | None, limit: int) -> list[OrderStatus]:
        """Return up to `limit` orders of a user, newest first, older than the order `before`.

        `user_ids`: the spellings of one user, rarely more than one. Order ids are UUIDv7, so they sort by the time of
        placement.
        """
        wanted = _known().where(table.c.user_id.in_(sorted(user_ids))).order_by(table.c.order_id.desc()).limit(limit)
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
        partitions = sorted(following)
        with outage_is_busy(), self._transactions.begin() as connection:
            stored = _lock_positions(connection, partitions)
            for partition in partitions:
                # Not the batch's first offset: between it and the position lie markers, which hold no record.
                if (position := stored.get(partition)) != left.get(partition):
                    raise Busy(f"{partition} stands at {position}, this projection left it at {left.get(partition)}")
            if statuses:
                _upsert_statuses(connection, statuses)
            if _store_positions(connection, {at: following[at] for at in partitions}, self._topic_ids) != len(
                partitions
            ):
                raise Busy("another projection stored the first position of a partition")


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


def _lock_positions(connection: sa.Connection, partitions: Sequence[Partition]) -> dict[Partition, int]:
    rows = connection.execute(_positions_of(partitions).with_for_update())
    return {Partition(row.topic, row.partition): row.next_offset for row in rows}


def _store_positions(
    connection: sa.Connection, following: Mapping[Partition, int], topic_ids: Mapping[str, str]
) -> int:
    """Return how many were stored; a position that another process stored meanwhile stays as it is."""
    return connection.execute(
        sa.text(
            """
            INSERT INTO orders.projection_offset (topic, partition, next_offset, topic_id)
            SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:numbers AS integer[]), CAST(:offsets AS bigint[]),
                CAST(:topic_ids AS text[]))
            ON CONFLICT (topic, partition) DO UPDATE SET
                next_offset = excluded.next_offset, topic_id = excluded.topic_id
            WHERE projection_offset.next_offset < excluded.next_offset
            """
        ),
        {
            "topics": [partition.topic for partition in following],
            "numbers": [partition.number for partition in following],
            "offsets": list(following.values()),
            "topic_ids": [topic_ids.get(partition.topic, "") for partition in following],
        },
    ).rowcount


def _upsert_statuses(connection: sa.Connection, statuses: Sequence[OrderStatus]) -> None:
    """Join the statuses into the table. LEAST ignores NULL: the earliest notification counts."""
    connection.execute(
        sa.text(
            """
            INSERT INTO orders.order_status AS known (order_id, user_id, status, reason, sku, requested, available,
                lines, placed_at, decided_at, notified_at)
            SELECT * FROM unnest(CAST(:order_ids AS uuid[]), CAST(:user_ids AS text[]), CAST(:statuses AS text[]),
                CAST(:reasons AS text[]), CAST(:skus AS text[]), CAST(:requested AS integer[]),
                CAST(:available AS integer[]), CAST(:lines AS jsonb[]), CAST(:placed AS timestamptz[]),
                CAST(:decided AS timestamptz[]), CAST(:notified AS timestamptz[]))
            ON CONFLICT (order_id) DO UPDATE SET
                status = CASE known.status WHEN 'pending' THEN excluded.status ELSE known.status END,
                reason = CASE known.status WHEN 'pending' THEN excluded.reason ELSE known.reason END,
                sku = CASE known.status WHEN 'pending' THEN excluded.sku ELSE known.sku END,
                requested = CASE known.status WHEN 'pending' THEN excluded.requested ELSE known.requested END,
                available = CASE known.status WHEN 'pending' THEN excluded.available ELSE known.available END,
                decided_at = CASE known.status WHEN 'pending' THEN excluded.decided_at ELSE known.decided_at END,
                lines = CASE known.status WHEN 'pending' THEN COALESCE(excluded.lines, known.lines)
                    ELSE known.lines END,
                placed_at = COALESCE(known.placed_at, excluded.placed_at),
                notified_at = LEAST(known.notified_at, excluded.notified_at)
            """
        ),
        _columns(statuses),
    )


def _columns(statuses: Sequence[OrderStatus]) -> dict[str, list[Any]]:
    return {
        "order_ids": [s.order_id for s in statuses],
        "user_ids": [s.user_id for s in statuses],
        "statuses": [s.status.value for s in statuses],
        "reasons": [s.reason.value if s.reason else None for s in statuses],
        "skus": [s.lacking.sku if s.lacking else None for s in statuses],
        "requested": [s.lacking.requested if s.lacking else None for s in statuses],
        "available": [s.lacking.available if s.lacking else None for s in statuses],
        "lines": [_lines_text(s.lines) if s.lines is not None else None for s in statuses],
        "placed": [_time(s.placed_at_ms) for s in statuses],
        "decided": [_time(s.decided_at_ms) for s in statuses],
        "notified": [_time(s.notified_at_ms) for s in statuses],
    }


def _lines_text(lines: Sequence[OrderLine]) -> str:
    return json.dumps([{"sku": line.sku, "quantity": line.quantity} for line in lines], separators=(",", ":"))


def _time(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, tz=UTC)


def _epoch_ms(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


def _known() -> sa.Select[Any]:
    """Select orders of which more than a notification is known."""
    return sa.select(table).where(table.c.placed_at.is_not(None))


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
