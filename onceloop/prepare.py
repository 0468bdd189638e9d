"""Make what an app needs before its first start: schema, tables, topics, first offsets. All may be repeated."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from onceloop.errors import ConfigError, FatalError, ReportedError
from onceloop.kafka.cluster import Cluster
from onceloop.postgres.decided_table import DecidedTable
from onceloop.postgres.guards.tables import GuardTables
from onceloop.records import Partition

CONNECT_SECONDS = 5
_LOCK = 0x6F6E63656C6F6F70 & 0x7FFFFFFFFFFFFFFF  # "onceloop": one setup at a time in a database
_OWNER = "onceloop group "


@contextmanager
def administration(url: str, *, password: str) -> Iterator[psycopg.Connection]:
    """Yield a connection, each statement its own transaction. Raises FatalError if the server does not let it in."""
    try:
        connection = psycopg.connect(
            make_conninfo(url, password=password or None, connect_timeout=CONNECT_SECONDS), autocommit=True
        )
    except psycopg.OperationalError as error:
        raise FatalError(f"PostgreSQL: {str(error).strip()}", cure="start it, or correct where it is") from error
    with connection:
        yield connection


def make_tables(connection: psycopg.Connection, schema: str, *, group: str, service: str) -> None:
    """Create schema and tables where they are missing. Raises ConfigError if they belong to another group."""
    name = sql.Identifier(schema)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if connection.execute("SELECT to_regnamespace(%s) IS NULL", [f'"{schema}"']).fetchone() == (True,):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))  # takes a right that not every owner has
        DecidedTable(schema, service=service).create(connection)
        GuardTables(schema).create(connection)
        if not refuse_foreign_tables(connection, schema, group=group):
            connection.execute(sql.SQL("COMMENT ON TABLE {}.decided IS {}").format(name, sql.Literal(_OWNER + group)))


def refuse_foreign_tables(connection: psycopg.Connection, schema: str, *, group: str) -> bool:
    """Return True if the tables are this group's, False if nothing says whose. Raises ConfigError as above.

    Two groups in one table would each take the other's decisions for their own. Raises ReportedError if there are none.
    """
    row = connection.execute(
        "SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NULL",
        [f'"{schema}".decided', f'"{schema}".decided'],
    ).fetchone()
    comment, missing = row or (None, True)
    if missing:
        raise ReportedError(f"there is no table {schema}.decided", cure="run the program with `init` first")
    if DecidedTable(schema, service="").is_of_old(connection):
        raise ReportedError(
            f"the table {schema}.decided was made by an older release",
            cure="stop the group's processes, then run the program with `init` once: it keeps every row",
        )
    if comment and comment.startswith(_OWNER) and comment != _OWNER + group:
        raise ConfigError(
            f"the schema {schema} holds the decisions of the group {comment.removeprefix(_OWNER)}, not of {group}",
            cure="give each group a schema of its own: Once(schema=...)",
        )
    return bool(comment)


def make_topics(cluster: Cluster, topics: Collection[str], *, partitions: int | None) -> list[str]:
    """Create what is missing, with so many partitions; return the names. Raises ReportedError if None are asked for."""
    missing = cluster.missing(topics)
    if missing and partitions is None:
        raise ReportedError(
            f"there is no topic {', '.join(missing)}", cure="create it, or have it created: init --topics PARTITIONS"
        )
    cluster.create([name for name in missing if not name.endswith(".dlq")], partitions=partitions or 1)
    cluster.create([name for name in missing if name.endswith(".dlq")], partitions=1)
    return missing


def begin_group(
    cluster: Cluster, connection: psycopg.Connection, *, schema: str, group_id: str, inputs: Collection[str]
) -> list[Partition]:
    """Give the group its first offsets, at the earliest record, where it has none; return where.

    Raises ReportedError where work was done: there an offset was lost, and a person decides where to go on.
    """
    missing = cluster.without_offset(group_id, inputs)
    if begun := GuardTables(schema).begun(connection, missing) if missing else set():
        names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(begun))
        raise ReportedError(
            f"group {group_id} has no offset on {names}, but work was done there",
            cure="find out why the broker has forgotten it; then set it by hand: below it all is decided, and records"
            " that come again are not decided twice",
        )
    if missing:
        cluster.begin_at_earliest(group_id, missing)
    return missing
