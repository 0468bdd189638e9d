"""SQL of the table of decisions: one row per key, in a schema of the group's own. Two pipelined trips per batch.

The first trip begins the transaction and reads what is decided, without locks. The second writes the new rows by
ascending key and commits. Where another worker was faster the primary key says so, the server undoes all of the
transaction, and the batch is decided on what it sees then.

`topic`, `partition`, "offset": the record that owns the key. `records`: see `onceloop.stored_records`. `refused`: they
are the dead letter of that record; another record of the key may yet be decided.
"""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg
from psycopg import sql

from onceloop import failpoints
from onceloop.errors import ContractError
from onceloop.ownership import Row
from onceloop.records import Partition

GUARDS = frozenset({"decided_pkey"})
"""What is violated when another worker was faster."""

_CREATE = """
CREATE TABLE IF NOT EXISTS {schema}.decided (
    key bytea CONSTRAINT decided_pkey PRIMARY KEY,
    topic text NOT NULL, partition int NOT NULL, "offset" bigint NOT NULL,
    records bytea NOT NULL, refused boolean NOT NULL DEFAULT false, decided_at timestamptz NOT NULL DEFAULT now()
)
"""
# The handler finds the schema's tables without naming the schema.
_NAME = """
SELECT set_config('onceloop.transaction', %s, true),
    set_config('search_path', {schema_text} || ', ' || current_setting('search_path'), true)
"""
_KNOWN = """
SELECT key, topic, partition, "offset", records, refused FROM {schema}.decided WHERE key = ANY(%b::bytea[])
"""
# The connection is set up for plans that suit an empty table of decisions; a handler's statements are planned as usual.
_PLAN_AS_USUAL = "SET LOCAL enable_seqscan = on"
_SAME_TRANSACTION = "SELECT 1 / (coalesce(current_setting('onceloop.transaction', true), '') = %s)::int"
_MAKE_WAY = "DELETE FROM {schema}.decided WHERE key = ANY(%b::bytea[]) AND refused"
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
        self._name, self._known, self._make_way, self._record = map(self._within, (_NAME, _KNOWN, _MAKE_WAY, _RECORD))

    def create(self, connection: psycopg.Connection) -> None:
        """Create it unless it is there; the schema must be."""
        connection.execute(self._within(_CREATE))

    def known(self, connection: psycopg.Connection, keys: Collection[bytes]) -> dict[bytes, Row]:
        """Return the decisions for these keys, by key."""
        with connection.cursor(binary=True) as cursor:
            cursor.execute(self._known, [list(keys)])
            return _rows(cursor)

    def begin(self, connection: psycopg.Connection, keys: Collection[bytes], *, name: str) -> dict[bytes, Row]:
        """Begin a transaction, known by this name; return the decisions for these keys, by key."""
        with connection.pipeline(), connection.cursor(binary=True) as cursor:
            connection.execute("BEGIN")
            connection.execute(self._name, [name])
            cursor.execute(self._known, [list(keys)])
            connection.execute(_PLAN_AS_USUAL)
            return _rows(cursor)

    def commit(
        self, connection: psycopg.Connection, rows: Sequence[Row], *, instead: Sequence[bytes], name: str
    ) -> None:
        """Write the rows and commit, or nothing of it. `instead`: keys of which a refusal makes way.

        Raises ContractError if the transaction is not the one that began under this name.
        """
        try:
            with connection.pipeline() as pipeline, connection.cursor(binary=True) as cursor:
                connection.execute(_SAME_TRANSACTION, [name])
                if instead:
                    cursor.execute(self._make_way, [list(instead)])
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


def _rows(cursor: psycopg.Cursor[Any]) -> dict[bytes, Row]:
    return {
        key: Row(key, (Partition(topic, partition), offset), records, refused)
        for key, topic, partition, offset, records, refused in cursor.fetchall()
    }


def _columns(rows: Sequence[Row]) -> list[object]:
    """Return the rows as one parameter per column. All of them are refused, or none: the former are written alone."""
    keys, owners, records, refused = zip(*rows, strict=True)
    return [
        any(refused),
        list(keys),
        ",".join([partition.topic for partition, _ in owners]),
        ",".join([str(partition.number) for partition, _ in owners]),
        ",".join([str(offset) for _, offset in owners]),
        list(records),
    ]
