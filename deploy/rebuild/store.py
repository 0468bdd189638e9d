"""SQL of the rebuild. Each change is one bounded transaction that repeats without effect: what stands is left alone.

One lock order, that of the workers: decisions by ascending order id, then stock by ascending SKU.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from common.events.notifications import message_id
from deploy.provision import database
from deploy.provision.config import ProvisionSettings
from deploy.provision.roles import OWNER
from deploy.rebuild.events import DecisionRow, SentRow
from onceloop.errors import FatalError
from onceloop.records import Partition

_SESSION = ("SET lock_timeout = '5s'", "SET statement_timeout = '60s'", f"SET ROLE {OWNER}")
_LINE_SEPARATOR = "\x1e"

_EVENTS = "SELECT order_id::text, event FROM inventory.decision WHERE order_id = ANY(CAST(:ids AS uuid[]))"
_INSERT = r"""
INSERT INTO inventory.decision
    (order_id, verdict, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at)
SELECT n.order_id, (n.reason IS NULL)::int, n.reason, n.event_id, n.event, n.topic, n.partition, n."offset",
    string_to_array(n.skus, E'\x1e'), string_to_array(n.qtys, ',')::int[], to_timestamp(n.decided_at_ms / 1000.0)
FROM unnest(CAST(:order_ids AS uuid[]), CAST(:reasons AS text[]), CAST(:event_ids AS uuid[]),
    CAST(:events AS bytea[]), CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]),
    CAST(:skus AS text[]), CAST(:qtys AS text[]), CAST(:times AS bigint[]))
    AS n(order_id, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at_ms)
ORDER BY n.order_id
ON CONFLICT (order_id) DO NOTHING
RETURNING order_id::text
"""
_LOCK = "SELECT sku FROM inventory.stock WHERE sku = ANY(CAST(:skus AS text[])) ORDER BY sku FOR UPDATE"
_TAKE = """
UPDATE inventory.stock s SET available = s.available - t.units
FROM unnest(CAST(:skus AS text[]), CAST(:units AS int[])) AS t(sku, units) WHERE s.sku = t.sku
"""
_AVAILABLE = "SELECT sku, available FROM inventory.stock"
_LEDGER = """
SELECT order_id::text, kind, channel FROM notification.ledger
WHERE order_id = ANY(CAST(:ids AS uuid[])) AND state = 'sent'
"""
_EVENT_IDS = "SELECT order_id::text, event_id::text FROM inventory.decision WHERE order_id = ANY(CAST(:ids AS uuid[]))"
_RECORD_SENT = """
INSERT INTO notification.ledger AS known
    (order_id, kind, channel, event_id, user_id, state, message_id, claimed_at, sent_at)
SELECT n.order_id, n.kind, n.channel, n.event_id, n.user_id, 'sent', n.message_id, n.at, n.at
FROM (
    SELECT order_id, kind, channel, event_id, user_id, message_id, to_timestamp(sent_at_ms / 1000.0) AS at
    FROM unnest(CAST(:order_ids AS uuid[]), CAST(:kinds AS text[]), CAST(:channels AS text[]),
        CAST(:event_ids AS uuid[]), CAST(:user_ids AS text[]), CAST(:message_ids AS text[]), CAST(:times AS bigint[]))
        AS u(order_id, kind, channel, event_id, user_id, message_id, sent_at_ms)
) n
ORDER BY n.order_id, n.kind
ON CONFLICT (order_id, kind, channel) DO UPDATE SET state = 'sent', sent_at = excluded.sent_at
WHERE known.state = 'claimed'
"""
_NOTED = 'SELECT topic, partition, "offset" FROM inventory.progress'
_NOTE = """
INSERT INTO inventory.progress AS p (topic, partition, "offset")
SELECT * FROM unnest(CAST(:topics AS text[]), CAST(:partitions AS int[]), CAST(:offsets AS bigint[]))
    AS n (topic, partition, "offset")
ORDER BY 1, 2
ON CONFLICT (topic, partition) DO UPDATE SET "offset" = greatest(p."offset", excluded."offset")
"""


class Store:
    """The pipeline's tables, with the rights of their owner."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def events(self, order_ids: Collection[str]) -> dict[str, bytes]:
        """Return the stored event of each of these orders that has a decision."""
        return {row[0]: bytes(row[1]) for row in self._rows(_EVENTS, ids=list(order_ids))}

    def available(self) -> dict[str, int]:
        """Return SKU -> units available."""
        return {row.sku: row.available for row in self._rows(_AVAILABLE)}

    def record(self, rows: Sequence[DecisionRow]) -> Counter[str]:
        """Insert the decisions that are missing and take what they reserve; return the units per SKU.

        Raises FatalError if there is too little: then nothing of it happened.
        """
        ordered = sorted(rows)
        with self._connection.begin():
            inserted = {row[0] for row in self._connection.execute(sa.text(_INSERT), _columns(ordered))}
            taken = units_reserved(row for row in ordered if row.order_id in inserted)
            skus = sorted(taken)
            found = self._connection.execute(sa.text(_LOCK), {"skus": skus}).scalars().all()
            if list(found) != skus:
                raise FatalError("a SKU is gone meanwhile", cure="call this again: it says which")
            self._connection.execute(sa.text(_TAKE), {"skus": skus, "units": [taken[sku] for sku in skus]})
        return taken

    def unsent(self, rows: Collection[SentRow]) -> list[SentRow]:
        """Return those that the ledger does not hold as sent, each once."""
        known = {tuple(row) for row in self._rows(_LEDGER, ids=[row.order_id for row in rows])}
        missing = {row[:3]: row for row in rows if row[:3] not in known}
        return [missing[key] for key in sorted(missing)]

    def record_sent(self, rows: Sequence[SentRow], *, mail_domain: str) -> None:
        """Put these into the ledger as sent; one without a decision is left out."""
        event_ids = {row[0]: row[1] for row in self._rows(_EVENT_IDS, ids=[row.order_id for row in rows])}
        sent = [(row, event_ids[row.order_id]) for row in rows if row.order_id in event_ids]
        with self._connection.begin():
            self._connection.execute(
                sa.text(_RECORD_SENT),
                {
                    "order_ids": [UUID(row.order_id) for row, _ in sent],
                    "kinds": [row.kind for row, _ in sent],
                    "channels": [row.channel for row, _ in sent],
                    "event_ids": [UUID(event_id) for _, event_id in sent],
                    "user_ids": [row.user_id for row, _ in sent],
                    "message_ids": [
                        message_id(event_id, channel=row.channel, domain=mail_domain) for row, event_id in sent
                    ],
                    "times": [row.sent_at_ms for row, _ in sent],
                },
            )

    def noted(self) -> dict[Partition, int]:
        """Return how far the inventory is noted to have answered."""
        return {Partition(row.topic, row.partition): row.offset for row in self._rows(_NOTED)}

    def note(self, answered: Mapping[Partition, int]) -> None:
        """Note that all below these offsets is answered, unless more is noted."""
        with self._connection.begin():
            self._connection.execute(
                sa.text(_NOTE),
                {
                    "topics": [at.topic for at in answered],
                    "partitions": [at.number for at in answered],
                    "offsets": list(answered.values()),
                },
            )

    def _rows(self, statement: str, **bound: object) -> Sequence[Any]:
        with self._connection.begin():
            return self._connection.execute(sa.text(statement), bound).all()


def units_reserved(rows: Iterator[DecisionRow]) -> Counter[str]:
    """Return what these decisions hold, in units per SKU."""
    units: Counter[str] = Counter()
    for row in rows:
        if row.reserved:
            units.update(dict(row.lines))
    return units


@contextmanager
def opened(settings: ProvisionSettings) -> Iterator[Store]:
    """Yield the tables. Raises FatalError if the server or the tables are not there, or a lock is held too long."""
    try:
        with database.admin_connection(settings, settings.database) as connection:
            for statement in _SESSION:
                connection.exec_driver_sql(statement)
            connection.commit()  # a formality under autocommit, but only then the level may change
            yield Store(connection.execution_options(isolation_level="READ COMMITTED"))
    except sa.exc.DBAPIError as error:
        cure = "is the stack up? see `pipeline status`; what was done so far stands, so call this again"
        if isinstance(error.orig, psycopg.errors.UndefinedTable):
            cure = "run `pipeline provision` first: the backup is older than the newest tables"
        raise FatalError(f"PostgreSQL: {error.orig}", cure=cure) from error


def _columns(rows: Sequence[DecisionRow]) -> dict[str, object]:
    return {
        "order_ids": [UUID(row.order_id) for row in rows],
        "reasons": [row.reason for row in rows],
        "event_ids": [UUID(row.event_id) for row in rows],
        "events": [row.event for row in rows],
        "topics": [row.owner.topic for row in rows],
        "partitions": [row.owner.number for row in rows],
        "offsets": [row.offset for row in rows],
        "skus": [_LINE_SEPARATOR.join(sku for sku, _ in row.lines) for row in rows],
        "qtys": [",".join(str(quantity) for _, quantity in row.lines) for row in rows],
        "times": [row.decided_at_ms for row in rows],
    }
