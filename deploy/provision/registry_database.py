"""The schema registry's own role and database on a PostgreSQL server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg

ROLE = DATABASE = "registry"


def make_registry_database(connection: "psycopg.Connection", password: str) -> None:
    """Make role and database unless they are there, and set the password. `connection`: superuser, autocommit."""
    from psycopg import sql

    names = {"role": sql.Identifier(ROLE), "database": sql.Identifier(DATABASE), "password": sql.Literal(password)}
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone()
    verb = sql.SQL("ALTER" if known else "CREATE")
    connection.execute(sql.SQL("{} ROLE {role} LOGIN PASSWORD {password}").format(verb, **names))
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {role}").format(**names))
        connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC").format(**names))
