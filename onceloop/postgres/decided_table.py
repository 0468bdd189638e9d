"""SQL of the table of decisions, in a schema of the group's own. Two pipelined trips per batch.

The first trip begins the transaction and reads what is decided, without locks. The second writes the new rows by
ascending key and commits. A record has one row at most, accepted or refused, and a key one accepted row at most. Where
another worker was faster one of the two says so, the server undoes all of the transaction, and the batch is decided on
what it sees then.

`topic`, `partition`, "offset": the record that owns the row. `records`: see `onceloop.stored_records`. `refused`: they
are the dead letter of that record; another record of the key may yet be accepted. No row is ever replaced: each is what
a replay of its record publishes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from onceloop import failpoints
from onceloop.errors import ContractError
from onceloop.ownership import Coordinate, Item, Known, Row
from onceloop.records import Partition

GUARDS = frozenset({"decided_owner", "decided_key"})
"""What is violated when another worker was faster: it decided the record, or another one of its key."""

_CREATE = """
CREATE TABLE IF NOT EXISTS {schema}.decided (
    key bytea NOT NULL,
    topic text NOT NULL, partition int NOT NULL, "offset" bigint NOT NULL,
    records bytea NOT NULL, refused boolean NOT NULL DEFAULT false, decided_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT decided_owner PRIMARY KEY (topic, partition, "offset")
)
"""
_IS_OF_OLD = """
SELECT 1 FROM pg_constraint
WHERE conrelid = to_regclass({schema_text} || '.decided') AND conname = 'decided_pkey'
"""
# One that an older release made has one row per key; each of its rows has an owner of its own.
_RENEW = """
ALTER TABLE {schema}.decided DROP CONSTRAINT decided_pkey,
    ADD CONSTRAINT decided_owner PRIMARY KEY (topic, partition, "offset")
"""
_ONE_PER_KEY = "CREATE UNIQUE INDEX IF NOT EXISTS decided_key ON {schema}.decided (key) WHERE NOT refused"
# The handler finds the schema's tables without naming the schema.
_NAME = """
SELECT set_config('onceloop.transaction', %s, true),
    set_config('search_path', {schema_text} || ', ' || current_setting('search_path'), true)
"""
_KNOWN = """
SELECT key, topic, partition, "offset", records, refused
FROM {schema}.decided WHERE key = ANY(%b::bytea[]) AND NOT refused
UNION ALL
SELECT key, topic, partition, "offset", records, refused
FROM {schema}.decided JOIN unnest(string_to_array(%b, ','), string_to_array(%b, ',')::int[],
    string_to_array(%b, ',')::bigint[]) AS o(topic, partition, "offset") USING (topic, partition, "offset")
"""
# The connection is set up for plans that suit an empty table of decisions; a handler's statements are planned as usual.
_PLAN_AS_USUAL = "SET LOCAL enable_seqscan = on"
_SAME_TRANSACTION = "SELECT 1 / (coalesce(current_setting('onceloop.transaction', true), '') = %s)::int"
_RECORD = """
INSERT INTO {schema}.decided (key, topic, partition, "offset", records, refused)
SELECT n.key, n.topic, n.partition, n."offset", n.records, %b
FROM unnest(%b::bytea[], string_to_array(%b, ','), string_to_array(%b, ',')::int[], string_to_array(%b, ',')::bigint[],
    %b::bytea[]) AS n(key, topic, partition, "offset", records)
"""
# A transaction that writes nothing does not wait for the standby, and what it read could be lost with the server.
_WAIT_FOR_STANDBY = "SELECT pg_logical_emit_message(true, 'onceloop', '')"


class DecidedTable:
    """The table of one schema; each method takes the connection on which it is to run. Raises psycopg.Error."""

    def __init__(self, schema: str, *, service: str) -> None:
        self._schema = sql.Identifier(schema)
        self._service = service
        self._name, self._known, self._record = map(self._within, (_NAME, _KNOWN, _RECORD))

    def create(self, connection: psycopg.Connection) -> None:
        """Create it unless it is there, and bring one of an older release up to date; the schema must be there."""
        connection.execute(self._within(_CREATE))
        if self.is_of_old(connection):
            connection.execute(self._within(_RENEW))
        connection.execute(self._within(_ONE_PER_KEY))

    def is_of_old(self, connection: psycopg.Connection) -> bool:
        """Return True if an older release made the table: `create` brings it up to date."""
        return connection.execute(self._within(_IS_OF_OLD)).fetchone() is not None

    def known(self, connection: psycopg.Connection, items: Iterable[Item]) -> Known:
        """Return what is decided of these records and of their keys."""
        with connection.cursor(binary=True) as cursor:
            cursor.execute(self._known, _asked(items))
            return _rows(cursor)

    def begin(self, connection: psycopg.Connection, items: Iterable[Item], *, name: str) -> Known:
        """Begin a transaction, known by this name; return what is decided of these records and of their keys."""
        with connection.pipeline(), connection.cursor(binary=True) as cursor:
            connection.execute("BEGIN")
            connection.execute(self._name, [name])
            cursor.execute(self._known, _asked(items))
            connection.execute(_PLAN_AS_USUAL)
            return _rows(cursor)

    def commit(self, connection: psycopg.Connection, rows: Sequence[Row], *, name: str) -> None:
        """Write the rows and commit, or nothing of it.

        Raises ContractError if the transaction is not the one that began under this name.
        """
        try:
            with connection.pipeline() as pipeline, connection.cursor(binary=True) as cursor:
                connection.execute(_SAME_TRANSACTION, [name])
                if rows:
                    cursor.execute(self._record, _columns(sorted(rows)))
                else:
                    connection.execute(_WAIT_FOR_STANDBY)
                cursor.execute("COMMIT")
                pipeline.sync()
                failpoints.point(f"{self._service}:db.sent")
        except psycopg.errors.DivisionByZero as error:
            raise ContractError(
                "the handler ended its transaction and began another one: what it wrote before is not undone",
                cure="leave BEGIN, COMMIT and ROLLBACK to the library",
            ) from error

    def _within(self, statement: str) -> bytes:
        named = sql.SQL(statement).format(schema=self._schema, schema_text=sql.Literal(self._schema.as_string(None)))
        return named.as_bytes(None)


def _asked(items: Iterable[Item]) -> list[object]:
    """Return keys and coordinates as one parameter per column."""
    keys, owners = zip(*((item.key, item.coordinate) for item in items), strict=True)
    return [list(keys), *_coordinates(owners)]


def _rows(cursor: psycopg.Cursor[Any]) -> Known:
    return Known.of(
        Row(key, (Partition(topic, partition), offset), records, refused)
        for key, topic, partition, offset, records, refused in cursor.fetchall()
    )


def _coordinates(owners: Iterable[Coordinate]) -> tuple[str, str, str]:
    partitions, offsets = zip(*owners, strict=True)
    return (
        ",".join([partition.topic for partition in partitions]),
        ",".join([str(partition.number) for partition in partitions]),
        ",".join([str(offset) for offset in offsets]),
    )


def _columns(rows: Sequence[Row]) -> list[object]:
    """Return the rows as one parameter per column. All of them are refused, or none: the former are written alone."""
    keys, owners, records, refused = zip(*rows, strict=True)
    return [
        any(refused),
        list(keys),
        *_coordinates(owners),
        list(records),
    ]
