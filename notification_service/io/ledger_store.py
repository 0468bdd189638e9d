"""SQL of the ledger: one row per order, kind and channel; claimed before the message leaves, marked once it left.

Every statement is a transaction of its own (autocommit): a claim must be durable before the message leaves, and a mark
before its offset is committed. Each takes a whole group of rows as arrays, so a batch costs a few trips.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert

from common.events.notifications import Kind
from common.postgres.outage import outage_is_busy
from notification_service.core.entries import Claim, Entry, Key
from notification_service.io.tables import ledger


@contextmanager
def connected(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Lend a connection of an engine that commits by itself. Raises Busy where PostgreSQL does not answer."""
    with outage_is_busy(), engine.connect() as connection:
        yield connection


def claim(connection: sa.Connection, claims: Sequence[Claim], *, channel: str) -> dict[Key, Entry]:
    """Write the rows that are missing, and return all of them as they stand; the keys must differ.

    What was first written stays: of two workers that claim the same row, both see one Message-ID.
    """
    rows = connection.execute(
        _CLAIM,
        {
            "of_channel": channel,
            "order_ids": [UUID(claim.key.order_id) for claim in claims],
            "kinds": [claim.key.kind.value for claim in claims],
            "event_ids": [UUID(claim.event_id) for claim in claims],
            "user_ids": [claim.user_id for claim in claims],
            "message_ids": [claim.message_id for claim in claims],
        },
    )
    entries = [_entry(row) for row in rows]
    return {entry.key: entry for entry in entries}


def mark(connection: sa.Connection, keys: Sequence[Key], *, channel: str) -> dict[Key, int]:
    """Mark rows as sent now; return when each was sent. A mark that stands keeps its time."""
    rows = connection.execute(
        _MARK,
        {
            "of_channel": channel,
            "order_ids": [UUID(key.order_id) for key in keys],
            "kinds": [key.kind.value for key in keys],
        },
    )
    return {Key(str(row.order_id), Kind(row.kind)): _milliseconds(row.sent_at) for row in rows}


def states(connection: sa.Connection, key: Key) -> frozenset[str]:
    """Return the states of this notification's rows, in any channel; none if it was never claimed."""
    wanted = sa.select(ledger.c.state).where(ledger.c.order_id == UUID(key.order_id), ledger.c.kind == key.kind.value)
    return frozenset(connection.scalars(wanted))


def mails_of_the_last_hour(connection: sa.Connection, mailboxes: Sequence[str]) -> list[tuple[str, int]]:
    """Return how many mails went to each of these user ids, in lower case; those that got none are left out."""
    return [(row.mailbox, row.mails) for row in connection.execute(_MAILS, {"mailboxes": list(mailboxes)})]


def _arrays(**columns: Any) -> Any:
    """Return the rows that array parameters hold together: `unnest(:order_ids, ...) AS wanted(order_id, ...)`."""
    parameters = [sa.bindparam(f"{name}s", type_=ARRAY(kind)) for name, kind in columns.items()]
    named = [sa.column(name, kind) for name, kind in columns.items()]
    return sa.func.unnest(*parameters).table_valued(*named).render_derived(name="wanted")


def _claim_statement() -> Any:
    wanted = _arrays(order_id=sa.Uuid, kind=sa.Text, event_id=sa.Uuid, user_id=sa.Text, message_id=sa.Text)
    # Ascending keys: two workers that meet on the same rows wait for each other instead of locking each other out.
    rows = sa.select(
        *wanted.c,
        sa.bindparam("of_channel", type_=sa.Text).label("channel"),
        sa.literal_column("'claimed'").label("state"),
    ).order_by(wanted.c.order_id, wanted.c.kind)
    statement = insert(ledger).from_select(rows.selected_columns.keys(), rows)
    # The update of a known row is what makes RETURNING return it; only an unsent one counts the attempt.
    counted = ledger.c.attempts + sa.case((ledger.c.state == "claimed", 1), else_=0)
    return statement.on_conflict_do_update(index_elements=ledger.primary_key, set_={"attempts": counted}).returning(
        ledger
    )


def _mark_statement() -> Any:
    wanted = _arrays(order_id=sa.Uuid, kind=sa.Text)
    return (
        sa.update(ledger)
        .values(state="sent", sent_at=sa.func.coalesce(ledger.c.sent_at, sa.func.now()))
        .where(ledger.c.order_id == wanted.c.order_id)
        .where(ledger.c.kind == wanted.c.kind)
        .where(ledger.c.channel == sa.bindparam("of_channel", type_=sa.Text))
        .returning(ledger.c.order_id, ledger.c.kind, ledger.c.sent_at)
    )


def _mails_statement() -> Any:
    mailbox = sa.func.lower(ledger.c.user_id.collate("C")).label("mailbox")  # ASCII alone, as Python folds it
    return (
        sa.select(mailbox, sa.func.count().label("mails"))
        .where(ledger.c.channel == sa.literal_column("'smtp'"))  # of the index, so not a parameter
        .where(mailbox == sa.any_(sa.bindparam("mailboxes", type_=ARRAY(sa.Text))))
        .where(ledger.c.sent_at > sa.func.now() - sa.text("interval '1 hour'"))
        .group_by(mailbox)
    )


_CLAIM = _claim_statement()
_MAILS = _mails_statement()
_MARK = _mark_statement()


def _entry(row: Any) -> Entry:
    return Entry(
        key=Key(str(row.order_id), Kind(row.kind)),
        event_id=str(row.event_id),
        user_id=row.user_id,
        message_id=row.message_id,
        sent_at_ms=None if row.sent_at is None else _milliseconds(row.sent_at),
        attempts=row.attempts,
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _milliseconds(time: datetime) -> int:
    """Return milliseconds since the epoch, exactly: a float would round the same time in two ways."""
    since = time - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000
