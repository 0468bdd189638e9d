"""Read the tables in one snapshot, by the checker's own SQL, as a role that may see all and change nothing."""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from sys import intern
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from audit.books import Decision, Key, LedgerRow, Status, Verdict
from audit.config import CheckerSettings
from audit.errors import StoreDownError
from audit.readers.collector import fingerprint, lacking, shared
from audit.readers.table_digests import KEY_DIGESTS, ORDER_DIGESTS, ORDERS_SPAN, Digests, digits_for
from audit.terms import Coordinate, KeyHolder, Lines, Offsets, Spot, Stock, Tally, Turns

ROWS_PER_TRIP = 20_000
_NOTHING_LACKING = (None, None, None, None)

KEYS = """
    SELECT order_id::text, substring(sha256(event) FOR 16), user_id, substring(fingerprint FOR 16),
        acknowledged_at IS NOT NULL
    FROM orders.idempotency_key
"""
# Milliseconds by way of float8: exact for times of this age, and a fifth of the price of numeric.
DECISIONS = """
    SELECT order_id::text, verdict, event_id::text, substring(sha256(event) FOR 16), topic, partition, "offset",
        skus, qtys, replays, reason, round(date_part('epoch', decided_at) * 1000)::bigint, user_id
    FROM inventory.decision
"""
TURNS = """
    SELECT user_id, count(turn), coalesce(max(turn), 0) FROM inventory.decision
    WHERE user_id IS NOT NULL GROUP BY user_id HAVING count(turn) <> coalesce(max(turn), 0) ORDER BY user_id
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
TALLIES = """
    SELECT verdict, reason, coalesce(counted, 0)::bigint, coalesce(recorded, 0)
    FROM (SELECT verdict, reason, sum(orders) AS counted FROM inventory.decision_total GROUP BY 1, 2) AS totals
    FULL JOIN (
        SELECT verdict, coalesce(reason, 'none') AS reason, count(*) AS recorded FROM inventory.decision GROUP BY 1, 2
    ) AS decisions USING (verdict, reason)
    ORDER BY verdict, reason
"""
STATUSES = """
    SELECT order_id::text, status, round(date_part('epoch', notified_at) * 1000)::bigint, user_id, lines,
        round(date_part('epoch', placed_at) * 1000)::bigint, round(date_part('epoch', decided_at) * 1000)::bigint,
        reason, sku, requested, available
    FROM orders.order_status
"""
LEDGER = """
    SELECT order_id::text, kind, channel, event_id::text, state, user_id, message_id,
        round(date_part('epoch', sent_at) * 1000000)::bigint / 1000
    FROM notification.ledger
"""
ANSWERED = 'SELECT topic, partition, "offset" FROM inventory.progress'
STARTS = "SELECT topic, partition, committed_offset FROM inventory.start"
TOPIC_IDS = "SELECT topic, topic_id FROM inventory.input_topic"
KEY_ORDERS = "SELECT user_id, key, order_id::text FROM orders.idempotency_key"
IN_BUCKETS = "SELECT * FROM ({}) AS t WHERE substring(order_id FOR %(digits)s) = ANY(%(buckets)s)"
REPLAYS = "SELECT sum(replays) FROM inventory.decision"
IDENTITY = """
    SELECT system_identifier, oid FROM pg_control_system(), pg_database WHERE datname = current_database()
"""
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


Buckets = Mapping[str, Any] | None
"""The buckets of orders to read, as a statement's parameters; None: all."""
Changed = Callable[[Digests], AbstractSet[str] | None]


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
    tallies: tuple[Tally, ...]
    turns: tuple[Turns, ...]
    statuses: dict[str, Status]
    ledger: dict[str, tuple[LedgerRow, ...]]
    projection: Offsets
    key_orders: dict[KeyHolder, str]
    answered: Offsets
    starts: Offsets
    topic_ids: dict[str, str]
    keys: tuple[Key, ...] = ()
    digests: Digests = field(default_factory=dict)
    replays: int = 0


class TableReader:
    """Where the tables are. Every method raises StoreDownError if the database does not answer."""

    def __init__(self, settings: CheckerSettings) -> None:
        self._url = settings.postgres_url
        self._password = settings.postgres_password.get_secret_value() or None
        self._prefix = f"{settings.namespace}." if settings.namespace else ""

    def keys(self) -> tuple[Key, ...]:
        """Return the orders of clients who sent a key."""
        with self._snapshot() as connection:
            return self._keys(connection, None)

    def projection(self) -> Offsets:
        """Return how far the status projection has read."""
        with self._snapshot() as connection:
            return self._offsets(connection, PROJECTION)

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
            tables = self._tables(connection, None)
            holders = _rows(connection, KEY_ORDERS) if keys else ()
            found = {KeyHolder(intern(user), key): intern(order_id) for user, key, order_id in holders}
            return replace(tables, key_orders=found)

    def bucket_digits(self) -> int:
        """Return how many characters of an order id make buckets that suit the orders there are."""
        with self._snapshot() as connection:
            ((orders, first, last),) = _rows(connection, ORDERS_SPAN)
        return digits_for(orders, first or "", last or "")

    def changed_keys(self, changed: Changed, *, digits: int) -> tuple[tuple[Key, ...], Digests]:
        """Return the keys of the buckets that `changed` names by the digests, and the digests."""
        with self._snapshot() as connection:
            digests = _digests(connection, KEY_DIGESTS, digits)
            return self._keys(connection, _chosen(changed(digests), digits)), digests

    def read_changed(self, changed: Changed, *, digits: int) -> Tables:
        """Return the rows of the buckets that `changed` names by the digests, and all else, as of one moment."""
        with self._snapshot() as connection:
            digests = _digests(connection, ORDER_DIGESTS, digits)
            buckets = _chosen(changed(digests), digits)
            tables = self._tables(connection, buckets)
            replays = sum(int(count or 0) for (count,) in _rows(connection, REPLAYS))
            return replace(tables, keys=self._keys(connection, buckets), digests=digests, replays=replays)

    def identity(self) -> str:
        """Return what distinguishes this database from any other, a copy under the same name included."""
        with self._snapshot() as connection:
            return " ".join(str(value) for row in _rows(connection, IDENTITY) for value in row)

    def _keys(self, connection: psycopg.Connection, buckets: Buckets) -> tuple[Key, ...]:
        return tuple(Key(intern(order_id), *rest) for order_id, *rest in _rows(connection, KEYS, buckets))

    def _tables(self, connection: psycopg.Connection, buckets: Buckets) -> Tables:
        """Return all tables; of those with a row per order only what is in these buckets."""
        ledger: dict[str, tuple[LedgerRow, ...]] = {}
        for order_id, *rest in _rows(connection, LEDGER, buckets):
            ledger[intern(order_id)] = (*ledger.get(order_id, ()), LedgerRow(*rest))
        return Tables(
            decisions={intern(row[0]): self._decision(*row[1:]) for row in _rows(connection, DECISIONS, buckets)},
            stock=tuple(Stock(*row) for row in _rows(connection, STOCK)),
            tallies=tuple(Tally(*row) for row in _rows(connection, TALLIES)),
            turns=tuple(Turns(*row) for row in _rows(connection, TURNS)),
            statuses={intern(row[0]): _status(*row[1:]) for row in _rows(connection, STATUSES, buckets)},
            ledger=ledger,
            projection=self._offsets(connection, PROJECTION),
            key_orders={},
            answered=self._offsets(connection, ANSWERED),
            starts=self._offsets(connection, STARTS),
            topic_ids={self._short_name(topic): topic_id for topic, topic_id in _rows(connection, TOPIC_IDS)},
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

    def _decision(self, *row: Any) -> Decision:
        verdict, event_id, digest, topic, partition, offset, skus, quantities, replays, reason, decided_at, user = row
        lines = tuple(zip(skus, quantities, strict=True))
        return Decision(
            verdict=Verdict.RESERVED if verdict else Verdict.FAILED,
            event_id=event_id,
            digest=digest,
            owner=Coordinate(self._short_name(topic), partition, offset),
            lines=fingerprint(lines),
            row_lines=shared(lines),
            replays=replays,
            reason=reason and intern(reason),
            decided_at=decided_at,
            units=sum(quantities),
            user=user and intern(user),
        )

    def _offsets(self, connection: psycopg.Connection, statement: LiteralString) -> Offsets:
        return {
            Spot(self._short_name(topic), partition): offset
            for topic, partition, offset in _rows(connection, statement)
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


def _status(
    status: str,
    notified_at: int | None,
    user: str,
    lines: Any,
    placed_at: int | None,
    decided_at: int | None,
    *why: Any,
) -> Status:
    return Status(
        status=intern(status),
        notified_at=notified_at,
        user=intern(user),
        lines=None if lines is None else _lines(lines),
        placed_at=placed_at,
        decided_at=decided_at,
        lacking=None if why == _NOTHING_LACKING else lacking(*why),
    )


def _lines(document: Any) -> int:
    """Return the fingerprint of lines in a document; of anything else that stands there, that of no lines."""
    try:
        return fingerprint([(line["sku"], line["quantity"]) for line in document])
    except (TypeError, KeyError):
        return fingerprint(())


def _digests(connection: psycopg.Connection, statement: LiteralString, digits: int) -> Digests:
    found = connection.execute(statement, {"digits": digits}, binary=True)
    return {(name, bucket): (count, value) for name, bucket, count, value in found}


def _chosen(buckets: AbstractSet[str] | None, digits: int) -> Buckets:
    return None if buckets is None else {"digits": digits, "buckets": list(buckets)}


def _rows(connection: psycopg.Connection, statement: LiteralString, buckets: Buckets = None) -> Iterator[Any]:
    """Stream the rows, or those of some buckets: a table may hold more than memory should."""
    with connection.cursor(name="rows", binary=True) as cursor:
        cursor.itersize = ROWS_PER_TRIP
        if buckets is None:
            cursor.execute(statement)
        else:
            cursor.execute(sql.SQL(IN_BUCKETS).format(sql.SQL(statement)), buckets)
        yield from cursor
