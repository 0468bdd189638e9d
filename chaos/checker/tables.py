"""Read the tables in one snapshot, by the checker's own SQL, as a role that may see all and change nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any, LiteralString, NamedTuple

import psycopg

from chaos.checker.books import AcknowledgedKey, Decision, LedgerRow, Status, Verdict
from chaos.checker.collector import fingerprint
from chaos.checker.config import CheckerSettings
from chaos.checker.errors import StoreDownError
from chaos.checker.terms import Coordinate, KeyHolder, Lines, Offsets, Spot, Stock

ROWS_PER_TRIP = 20_000

KEYS = """
    SELECT order_id::text, substring(sha256(event) FOR 16)
    FROM orders.idempotency_key WHERE acknowledged_at IS NOT NULL
"""
DECISIONS = """
    SELECT order_id::text, verdict, event_id::text, substring(sha256(event) FOR 16), topic, partition, "offset",
        skus, qtys, replays
    FROM inventory.decision
"""
STOCK = """
    SELECT sku, on_hand, available, coalesce(reserved, 0)
    FROM inventory.stock FULL JOIN (
        SELECT line.sku, sum(line.qty) AS reserved
        FROM inventory.decision, unnest(skus, qtys) AS line (sku, qty)
        WHERE verdict = 1 GROUP BY line.sku
    ) AS held USING (sku)
    ORDER BY sku
"""
STATUSES = "SELECT order_id::text, status, notified_at IS NOT NULL FROM orders.order_status"
LEDGER = "SELECT order_id::text, kind, channel, event_id::text, state FROM notification.ledger ORDER BY claimed_at"
KEY_ORDERS = "SELECT user_id, key, order_id::text FROM orders.idempotency_key"
PROJECTION = "SELECT topic, partition, next_offset FROM orders.projection_offset"
DECIDED = "SELECT count(*) FROM orders.order_status WHERE status <> 'pending'"


ORDER_DECISION = """
    SELECT verdict, reason, event_id::text, topic, partition, "offset", skus, qtys, replays, decided_at
    FROM inventory.decision WHERE order_id = %(order_id)s
"""
ORDER_STATUS = """
    SELECT status, reason, notified_at, placed_at, decided_at, user_id
    FROM orders.order_status WHERE order_id = %(order_id)s
"""
ORDER_LEDGER = """
    SELECT kind, channel, state, event_id::text, attempts, claimed_at, sent_at
    FROM notification.ledger WHERE order_id = %(order_id)s ORDER BY claimed_at
"""
ORDER_KEYS = """
    SELECT key, created_at, acknowledged_at
    FROM orders.idempotency_key WHERE order_id = %(order_id)s ORDER BY created_at
"""


class DecisionRow(NamedTuple):
    """One decision, as it stands."""

    verdict: Verdict
    reason: str | None
    event_id: str
    owner: Coordinate
    lines: Lines
    replays: int
    decided_at: datetime


class StatusRow(NamedTuple):
    """One status, as it stands."""

    status: str
    reason: str | None
    notified_at: datetime | None
    placed_at: datetime | None
    decided_at: datetime | None
    user_id: str


class NotificationRow(NamedTuple):
    """One ledger row, as it stands."""

    kind: str
    channel: str
    state: str
    event_id: str
    attempts: int
    claimed_at: datetime
    sent_at: datetime | None


class KeyRow(NamedTuple):
    """One idempotency key, as it stands."""

    key: str
    created_at: datetime
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRows:
    """What the tables say of one order, as of one moment."""

    decision: DecisionRow | None
    status: StatusRow | None
    ledger: tuple[NotificationRow, ...]
    keys: tuple[KeyRow, ...]

    @property
    def empty(self) -> bool:
        """Return True if no table knows the order."""
        return not (self.decision or self.status or self.ledger or self.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of one snapshot."""

    decisions: dict[str, Decision]
    stock: tuple[Stock, ...]
    statuses: dict[str, Status]
    ledger: dict[str, tuple[LedgerRow, ...]]
    projection: Offsets
    key_orders: dict[KeyHolder, str]


class TableReader:
    """Where the tables are. Every method raises StoreDownError if the database does not answer."""

    def __init__(self, settings: CheckerSettings) -> None:
        self._url = settings.postgres_url
        self._password = settings.postgres_password.get_secret_value() or None
        self._prefix = f"{settings.namespace}." if settings.namespace else ""

    def acknowledged_keys(self) -> tuple[AcknowledgedKey, ...]:
        """Return the orders that were confirmed to clients who sent a key."""
        with self._snapshot() as connection:
            return tuple(AcknowledgedKey(*row) for row in _rows(connection, KEYS))

    def projection(self) -> Offsets:
        """Return how far the status projection has read."""
        with self._snapshot() as connection:
            return self._projection(connection)

    def decided_statuses(self) -> int:
        """Return how many orders have a status other than pending."""
        with self._snapshot() as connection:
            return sum(count for (count,) in _rows(connection, DECIDED))

    def stock(self) -> tuple[Stock, ...]:
        """Return the stock and what is reserved of it, as of one moment."""
        with self._snapshot() as connection:
            return tuple(Stock(*row) for row in _rows(connection, STOCK))

    def read(self, *, keys: bool = False) -> Tables:
        """Return all tables as of one moment; the order of each key only if `keys`."""
        with self._snapshot() as connection:
            ledger: dict[str, tuple[LedgerRow, ...]] = {}
            for order_id, *rest in _rows(connection, LEDGER):
                ledger[intern(order_id)] = (*ledger.get(order_id, ()), LedgerRow(*rest))
            return Tables(
                decisions={intern(row[0]): self._decision(*row[1:]) for row in _rows(connection, DECISIONS)},
                stock=tuple(Stock(*row) for row in _rows(connection, STOCK)),
                statuses={
                    intern(order_id): Status(intern(rest[0]), rest[1])
                    for order_id, *rest in _rows(connection, STATUSES)
                },
                ledger=ledger,
                projection=self._projection(connection),
                key_orders={
                    KeyHolder(intern(user), key): intern(order_id)
                    for user, key, order_id in (_rows(connection, KEY_ORDERS) if keys else ())
                },
            )

    def select(self, statement: LiteralString) -> Iterator[tuple[Any, ...]]:
        """Yield what a statement of the checker's finds, as of one moment."""
        with self._snapshot() as connection:
            yield from _rows(connection, statement)

    def order(self, order_id: str) -> OrderRows:
        """Return the rows of one order as of one moment."""
        bound = {"order_id": order_id}
        with self._snapshot() as connection:
            decision = connection.execute(ORDER_DECISION, bound).fetchone()
            status = connection.execute(ORDER_STATUS, bound).fetchone()
            return OrderRows(
                decision=self._decision_row(*decision) if decision else None,
                status=StatusRow(*status) if status else None,
                ledger=tuple(NotificationRow(*row) for row in connection.execute(ORDER_LEDGER, bound)),
                keys=tuple(KeyRow(*row) for row in connection.execute(ORDER_KEYS, bound)),
            )

    def _decision_row(
        self,
        verdict: int,
        reason: str | None,
        event_id: str,
        topic: str,
        partition: int,
        offset: int,
        skus: list[str],
        quantities: list[int],
        replays: int,
        decided_at: datetime,
    ) -> DecisionRow:
        return DecisionRow(
            verdict=Verdict.RESERVED if verdict else Verdict.FAILED,
            reason=reason,
            event_id=event_id,
            owner=Coordinate(self._short_name(topic), partition, offset),
            lines=tuple(zip(skus, quantities, strict=True)),
            replays=replays,
            decided_at=decided_at,
        )

    def _decision(
        self,
        verdict: int,
        event_id: str,
        digest: bytes,
        topic: str,
        partition: int,
        offset: int,
        skus: list[str],
        quantities: list[int],
        replays: int,
    ) -> Decision:
        lines = tuple(zip(skus, quantities, strict=True))
        return Decision(
            verdict=Verdict.RESERVED if verdict else Verdict.FAILED,
            event_id=event_id,
            digest=digest,
            owner=Coordinate(self._short_name(topic), partition, offset),
            lines=fingerprint(lines),
            wanted=() if verdict else lines,
            replays=replays,
        )

    def _projection(self, connection: psycopg.Connection) -> Offsets:
        return {
            Spot(self._short_name(topic), partition): offset
            for topic, partition, offset in _rows(connection, PROJECTION)
        }

    def _short_name(self, topic: str) -> str:
        return intern(topic.removeprefix(self._prefix))

    @contextmanager
    def _snapshot(self) -> Iterator[psycopg.Connection]:
        """Open a read-only transaction that sees one moment, whatever is committed meanwhile."""
        try:
            with psycopg.connect(
                self._url, password=self._password, connect_timeout=3, application_name="checker"
            ) as connection:
                connection.read_only = True
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                yield connection
        except psycopg.OperationalError as error:
            raise StoreDownError(f"PostgreSQL does not answer: {error}", cure="see: pipeline status") from error
        except psycopg.errors.UndefinedTable as error:
            raise StoreDownError("the tables do not exist", cure="run: pipeline provision") from error


def _rows(connection: psycopg.Connection, statement: LiteralString) -> Iterator[Any]:
    """Stream the rows: a table may hold more than memory should."""
    with connection.cursor(name="rows", binary=True) as cursor:
        cursor.itersize = ROWS_PER_TRIP
        cursor.execute(statement)
        yield from cursor
