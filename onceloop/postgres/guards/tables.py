"""SQL of the guards' three tables, in a schema of the service's own.

`start` (topic, partition, committed_offset, starts): how many processes began at one offset.
`progress` (topic, partition, "offset"): below it, all is committed in Kafka. The group's committed offsets say the
same, and a worker starts from them alone; these rows only expose a broker that answers old offsets, or a group that was
set back.
`input_topic` (topic, topic_id): a topic that was recreated repeats coordinates under another id.
"""

from collections.abc import Collection, Mapping

import psycopg
from psycopg import sql

from onceloop.records import CommitPoint, Partition

_CREATE = """
CREATE TABLE IF NOT EXISTS {schema}.start (
    topic text, partition int, committed_offset bigint NOT NULL,
    starts int NOT NULL CONSTRAINT start_starts_ge_1 CHECK (starts >= 1),
    CONSTRAINT start_pkey PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS {schema}.progress (
    topic text, partition int, "offset" bigint NOT NULL, CONSTRAINT progress_pkey PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS {schema}.input_topic (
    topic text CONSTRAINT input_topic_pkey PRIMARY KEY, topic_id text NOT NULL
);
"""
_COUNT_START = """
INSERT INTO {schema}.start AS s (topic, partition, committed_offset, starts) VALUES (%s, %s, %s, 1)
ON CONFLICT (topic, partition) DO UPDATE SET
    starts = CASE WHEN s.committed_offset = EXCLUDED.committed_offset THEN s.starts + 1 ELSE 1 END,
    committed_offset = EXCLUDED.committed_offset
RETURNING starts
"""
_BEGUN = """
SELECT topic, partition FROM {schema}.start
JOIN unnest(%b::text[], %b::int[]) AS asked (topic, partition) USING (topic, partition)
"""
_TAKE_BACK = "UPDATE {schema}.start SET starts = greatest(starts - 1, 1) WHERE topic = %s AND partition = %s"
# A note that is lost with the server is a lower bound all the same, so nothing waits for its way to the disk. The
# setting ends with the transaction, which is this statement.
_NOTE = """
INSERT INTO {schema}.progress AS p (topic, partition, "offset")
SELECT topic, partition, "offset"
FROM unnest(%b::text[], %b::int[], %b::bigint[]) AS n (topic, partition, "offset"),
    set_config('synchronous_commit', 'off', true)
ORDER BY topic, partition
ON CONFLICT (topic, partition) DO UPDATE SET "offset" = greatest(p."offset", excluded."offset")
"""
_NOTED = """
SELECT topic, partition, "offset" FROM {schema}.progress
JOIN unnest(%b::text[], %b::int[]) AS asked (topic, partition) USING (topic, partition)
"""
_REMEMBER_TOPIC = """
INSERT INTO {schema}.input_topic AS t (topic, topic_id) VALUES (%s, %s)
ON CONFLICT (topic) DO UPDATE SET topic = EXCLUDED.topic
RETURNING t.topic_id
"""


class GuardTables:
    """The tables of one schema; each method takes the connection on which it is to run. Raises psycopg.Error."""

    def __init__(self, schema: str) -> None:
        self._schema = sql.Identifier(schema)
        self._count_start, self._begun, self._take_back = map(self._within, (_COUNT_START, _BEGUN, _TAKE_BACK))
        self._note, self._noted, self._remember = map(self._within, (_NOTE, _NOTED, _REMEMBER_TOPIC))

    def create(self, connection: psycopg.Connection) -> None:
        """Create those that are not there; the schema must be."""
        connection.execute(self._within(_CREATE))

    def count_start(self, connection: psycopg.Connection, partition: Partition, offset: int) -> int:
        """Return how many processes have begun to work at this offset, this one included."""
        row = connection.execute(self._count_start, [partition.topic, partition.number, offset]).fetchone()
        assert row is not None  # noqa: S101 - RETURNING returns
        return int(row[0])

    def begun(self, connection: psycopg.Connection, partitions: Collection[Partition]) -> set[Partition]:
        """Return the partitions at which a process has begun to work."""
        asked = [[at.topic for at in partitions], [at.number for at in partitions]]
        return {Partition(topic, number) for topic, number in connection.execute(self._begun, asked)}

    def take_start_back(self, connection: psycopg.Connection, partition: Partition) -> None:
        """Count one process less: it ended in order."""
        connection.execute(self._take_back, [partition.topic, partition.number])

    def note(self, connection: psycopg.Connection, committed: Mapping[Partition, CommitPoint]) -> None:
        """Keep these committed offsets, unless higher ones stand there: one statement, one trip."""
        points = [(at.topic, at.number, point.offset) for at, point in committed.items()]
        connection.execute(self._note, [list(column) for column in zip(*points, strict=True)])

    def noted(self, connection: psycopg.Connection, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return what is known of these partitions; of a new one nothing."""
        with connection.cursor(binary=True) as cursor:
            cursor.execute(self._noted, [[at.topic for at in partitions], [at.number for at in partitions]])
            return {Partition(topic, number): offset for topic, number, offset in cursor}

    def remembered_topic_id(self, connection: psycopg.Connection, *, topic: str, topic_id: str) -> str:
        """Return the id that was first seen for this topic's name; remember this one if there is none."""
        row = connection.execute(self._remember, [topic, topic_id]).fetchone()
        assert row is not None  # noqa: S101 - RETURNING returns
        return str(row[0])

    def _within(self, statement: str) -> bytes:
        return sql.SQL(statement).format(schema=self._schema).as_bytes(None)
