"""The database: created, owned by `migrator`, closed to all others, migrated.

Names come from settings that admit plain lower-case identifiers only, so they stand in DDL as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from deploy.provision.config import ProvisionSettings
from deploy.provision.roles import OWNER, ROLES
from migrations.upgrade import upgrade

SEARCH_PATH = "inventory, orders, notification, public"
"""So that `select * from reservations` works as it stands."""

EMPTY = "template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
"""Texts sort by code point on every machine, as Python sorts them."""

_LOCK = 0x6F72646572  # "order": one provisioner at a time on a server
_LOCK_WAIT = "60s"
_CONNECT_SECONDS = 5


@contextmanager
def administration(settings: ProvisionSettings) -> Iterator[sa.Connection]:
    """Yield a connection to the server's own database that no other provisioner has at the same time.

    Roles are shared by all databases of a server, and so is this lock. It ends with the connection.
    """
    with admin_connection(settings, "postgres") as connection:
        connection.exec_driver_sql(f"SET statement_timeout = '{_LOCK_WAIT}'")
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        connection.exec_driver_sql("RESET statement_timeout")
        yield connection


@contextmanager
def admin_connection(settings: ProvisionSettings, database: str) -> Iterator[sa.Connection]:
    """Yield a connection to one database with the administrator's rights, each statement its own transaction."""
    url = sa.make_url(settings.postgres_admin_url).set(
        drivername="postgresql+psycopg",
        password=settings.postgres_admin_password.get_secret_value() or None,
        database=database,
    )
    engine = sa.create_engine(
        url,
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "pipeline-provision"},
    )
    with engine.connect() as connection:
        yield connection


def ensure_database(connection: sa.Connection, name: str, *, source: str = EMPTY) -> bool:
    """Create the database unless it is there, and close it to all but our roles; return True if it is new.

    `source`: what to copy, an empty database by default.
    """
    created = not exists(connection, name)
    if created:
        connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {source}")
    # Neither settings nor rights of a database come with its template.
    connection.exec_driver_sql(f"ALTER DATABASE {name} SET search_path = {SEARCH_PATH}")
    connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    connection.exec_driver_sql(f"GRANT CONNECT ON DATABASE {name} TO {', '.join(role.name for role in ROLES)}")
    return created


def exists(connection: sa.Connection, name: str) -> bool:
    """Return whether the server has this database."""
    found = connection.execute(sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
    return found.first() is not None


def migrate(connection: sa.Connection) -> tuple[str, ...]:
    """Run the missing migrations as the owner; return the revisions that ran."""
    connection.exec_driver_sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    connection.exec_driver_sql(f"SET ROLE {OWNER}")
    connection.commit()  # a formality under autocommit, but only then the level may change
    return upgrade(connection.execution_options(isolation_level="READ COMMITTED"))
