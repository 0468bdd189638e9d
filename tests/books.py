"""A database of a test's own, without topics: what stands between the code and PostgreSQL is examined alone."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
import uuid_utils
from pydantic import SecretStr

from common.config import PostgresSettings
from common.events.orders import OrderLine
from deploy.provision import database
from deploy.provision.config import ProvisionSettings
from inventory_service.core.replay import Coordinate, Decision
from inventory_service.io import decision_store
from inventory_service.io.decision_store import NewDecision
from onceloop.records import Partition
from tests.stack import Stack

NOW_MS = 1_800_000_000_123


class Books:
    """The tables of the inventory, looked at and set through one connection of the superuser."""

    def __init__(self, settings: ProvisionSettings, admin: sa.Connection) -> None:
        self._settings = settings
        self._admin = admin

    def postgres(self, role: str, *, port: int | None = None) -> PostgresSettings:
        """Return the settings of a role; `port` leads through a forwarder."""
        at = sa.make_url(self._settings.postgres_admin_url)
        password = (self._settings.role_secrets_dir / role).read_text(encoding="utf-8").strip()
        return PostgresSettings(
            postgres_url=f"postgresql://{role}@{at.host}:{port or at.port or 5432}/{self._settings.database}",
            postgres_password=SecretStr(password),
        )

    @property
    def address(self) -> tuple[str, int]:
        at = sa.make_url(self._settings.postgres_admin_url)
        return str(at.host), at.port or 5432

    def execute(self, statement: str, **values: Any) -> sa.CursorResult[Any]:
        """Run one statement as the superuser, in a transaction of its own."""
        return self._admin.execute(sa.text(statement), values)

    def set_stock(self, quantities: Mapping[str, int]) -> None:
        """Put so much of each SKU on hand, none of it reserved."""
        self.execute(
            """
            INSERT INTO inventory.stock
            SELECT sku, units, units FROM unnest(CAST(:skus AS text[]), CAST(:units AS int[])) AS t(sku, units)
            ON CONFLICT (sku) DO UPDATE SET on_hand = excluded.on_hand, available = excluded.available
            """,
            skus=list(quantities),
            units=list(quantities.values()),
        )

    def available(self, *skus: str) -> dict[str, int]:
        """Return what is left of these SKUs."""
        rows = self.execute(
            "SELECT sku, available FROM inventory.stock WHERE sku = ANY(CAST(:skus AS text[]))", skus=list(skus)
        )
        return {row.sku: row.available for row in rows}

    def decision(self, order_id: str) -> Any:
        """Return the order's row, or None."""
        return self.execute("SELECT * FROM inventory.decision WHERE order_id = :id", id=order_id).one_or_none()

    def terminate(self, pid: int) -> None:
        """End a server process and wait until it is gone."""
        self.execute("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)

    def waits_for_lock(self, pid: int) -> bool:
        """Return True if this session waits for a lock."""
        found = self.execute("SELECT wait_event_type FROM pg_stat_activity WHERE pid = :pid", pid=pid)
        return bool(found.scalar() == "Lock")


@contextmanager
def open_books(stack: Stack) -> Iterator[Books]:
    """Copy the run's migrated database; drop the copy afterwards."""
    settings = stack.settings.model_copy(update={"database": f"test_{secrets.token_hex(5)}"})
    with database.admin_connection(settings, "postgres") as server:
        database.ensure_database(server, settings.database, source=stack.template)
        try:
            with database.admin_connection(settings, settings.database) as admin:
                yield Books(settings, admin)
        finally:
            server.exec_driver_sql(f"DROP DATABASE IF EXISTS {settings.database} WITH (FORCE)")


def some_id() -> str:
    return str(uuid_utils.uuid7())


def some_sku() -> str:
    return f"sku-{some_id()}"


def new_decision(
    *, order_id: str | None = None, lines: Mapping[str, int] | None = None, reason: str | None = None, **changes: Any
) -> NewDecision:
    made = Decision(
        order_id=order_id or some_id(),
        reason=reason,
        event_id=some_id(),
        event=b"\x00\x00\x00\x00\x02 stored bytes",
        owner=Coordinate(Partition("orders.created", 3), 41),
        decided_at_ms=NOW_MS,
    )
    return NewDecision(
        decision=made._replace(**changes),
        lines=tuple(OrderLine(sku, quantity) for sku, quantity in (lines or {"tea": 1}).items()),
    )


def record(
    connection: psycopg.Connection,
    new: Sequence[NewDecision] = (),
    *,
    replayed: Sequence[str] = (),
    taken: Mapping[str, int] | None = None,
) -> None:
    with decision_store.recording(connection, new=new, replayed=replayed, taken=taken or {}):
        pass
