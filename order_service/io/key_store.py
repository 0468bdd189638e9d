"""Idempotency keys: one row per (user, key), written once, so that every attempt produces the same bytes.

Each statement is its own transaction. The insert may say ON CONFLICT DO NOTHING because nothing is queued behind it:
the loser of the race reads the winner's row next.
"""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from common.postgres.outage import outage_is_busy
from onceloop.errors import Busy
from order_service.core.idempotency import KeyRow
from order_service.io.tables import idempotency_key as table

CLAIMS_MAX = 3

_INSERT = (
    pg.insert(table)
    .values({column: sa.bindparam(column) for column in ("user_id", "key", "fingerprint", "order_id", "event")})
    .on_conflict_do_nothing()
    .returning(table.c.order_id)
)
_OF_KEY = sa.and_(table.c.user_id == sa.bindparam("of_user"), table.c.key == sa.bindparam("of_key"))
_READ = sa.select(table.c.fingerprint, table.c.order_id, table.c.event, table.c.acknowledged_at).where(_OF_KEY)
_MARK = sa.update(table).where(_OF_KEY, table.c.acknowledged_at.is_(None)).values(acknowledged_at=sa.func.now())


class KeyStore:
    """The table `orders.idempotency_key`, through an engine that commits by itself."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def claim(self, offered: KeyRow) -> KeyRow:
        """Return the row that stands under the key: the offered one, or the one that was there before.

        Raises Busy if the database does not answer; the row may stand all the same.
        """
        with outage_is_busy(), self._engine.connect() as connection:
            for _ in range(CLAIMS_MAX):
                if _insert(connection, offered):
                    return offered
                if (standing := _read(connection, offered.user_id, offered.key)) is not None:
                    return standing
        raise Busy("the key's row comes and goes")  # rows expire, but not that fast

    def find(self, user_id: str, key: str) -> KeyRow | None:
        """Return the row that stands under the key, if one does. Raises Busy if the database does not answer."""
        with outage_is_busy(), self._engine.connect() as connection:
            return _read(connection, user_id, key)

    def acknowledge(self, row: KeyRow) -> None:
        """Note that the broker has the event. Raises Busy; nothing is lost then but the short cut of a retry."""
        with outage_is_busy(), self._engine.connect() as connection:
            connection.execute(_MARK, {"of_user": row.user_id, "of_key": row.key})


def _insert(connection: sa.Connection, row: KeyRow) -> bool:
    """Return True if the row is ours now, False if one stood there."""
    values = {
        "user_id": row.user_id,
        "key": row.key,
        "fingerprint": row.fingerprint,
        "order_id": UUID(row.order_id),
        "event": row.event,
    }
    return connection.execute(_INSERT, values).first() is not None


def _read(connection: sa.Connection, user_id: str, key: str) -> KeyRow | None:
    found = connection.execute(_READ, {"of_user": user_id, "of_key": key}).one_or_none()
    if found is None:
        return None
    return KeyRow(
        user_id,
        key,
        found.fingerprint,
        str(found.order_id),
        found.event,
        acknowledged=found.acknowledged_at is not None,
    )
