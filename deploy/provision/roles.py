"""The database roles: who there is, what a session of each may take, and whose password is where.

Roles belong to the whole server. What each may touch is granted by the migrations, beside the tables.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from onceloop.errors import ConfigError

OWNER = "migrator"
"""Owns the database and all in it. It cannot log in: provisioning acts as it by SET ROLE."""

Session = tuple[tuple[str, str], ...]

_SERVICE: Session = (
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("transaction_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
)
_LOOKING: Session = (
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "60s"),
    ("lock_timeout", "2s"),
    ("transaction_timeout", "5min"),
    ("idle_in_transaction_session_timeout", "60s"),
)


@dataclass(frozen=True, slots=True)
class Role:
    """One role that logs in, and the settings each of its sessions starts with."""

    name: str
    connections_max: int
    session: Session = _SERVICE


ROLES = (
    Role("order_rw", 50),
    Role("inventory_rw", 50),
    Role("notification_rw", 50),
    Role("connect_rw", 20),
    Role("stock_admin", 10),
    Role("reader", 20, _LOOKING),
    Role("checker", 20, _LOOKING),
)


def read_passwords(folder: Path) -> dict[str, str]:
    """Return role -> password for every role that logs in.

    Raises ConfigError that names each file that is missing or empty.
    """
    passwords = {role.name: _first_line(folder / role.name) for role in ROLES}
    if absent := [name for name, password in passwords.items() if not password]:
        raise ConfigError(
            f"PIPELINE_ROLE_SECRETS_DIR: no password in {', '.join(str(folder / name) for name in absent)}",
            cure="write one password into each, readable by its owner alone",
        )
    return passwords


def ensure_roles(connection: sa.Connection, passwords: dict[str, str]) -> tuple[str, ...]:
    """Create the roles that are missing and set every one's password and limits; return the names of the new ones.

    The server gets SCRAM verifiers, never a password: its log could hold the statement.
    """
    known = set(connection.execute(sa.text("SELECT rolname FROM pg_roles")).scalars())
    created = tuple(name for name in (OWNER, *(role.name for role in ROLES)) if name not in known)
    for name in created:
        connection.exec_driver_sql(f"CREATE ROLE {name}")
    connection.exec_driver_sql(f"ALTER ROLE {OWNER} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
    connection.exec_driver_sql(f"GRANT {OWNER} TO CURRENT_USER")
    for role in ROLES:
        _configure(connection, role, passwords[role.name])
    return created


def _configure(connection: sa.Connection, role: Role, password: str) -> None:
    driver: Any = connection.connection.driver_connection  # psycopg's, which can compute a verifier
    verifier = driver.pgconn.encrypt_password(password.encode(), role.name.encode(), b"scram-sha-256").decode()
    connection.exec_driver_sql(
        f"ALTER ROLE {role.name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
        f" CONNECTION LIMIT {role.connections_max} PASSWORD '{verifier}'"
    )
    for name, value in role.session:
        connection.exec_driver_sql(f"ALTER ROLE {role.name} SET {name} = '{value}'")


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError:
        return ""
