"""SQL of how far records are answered: the offset below which all of a partition is committed in Kafka.

The group's committed offsets say the same, and a worker starts from them alone. These rows never lead a worker; they
find out a broker that answers old offsets, or a group that somebody set back.
"""

from collections.abc import Collection, Mapping

import psycopg

from onceloop.records import CommitPoint, Partition

# A note that is lost with the server is a lower bound all the same, so nobody waits for its way to the disk.
_NOT_WAITING = "SET LOCAL synchronous_commit = off"
_NOTE = """
INSERT INTO inventory.progress AS p (topic, partition, "offset")
SELECT topic, partition, "offset"
FROM unnest(%b::text[], %b::int[], %b::bigint[]) AS n (topic, partition, "offset")
ORDER BY topic, partition
ON CONFLICT (topic, partition) DO UPDATE SET "offset" = greatest(p."offset", excluded."offset")
"""
_ANSWERED = """
SELECT topic, partition, "offset" FROM inventory.progress
JOIN unnest(%b::text[], %b::int[]) AS asked (topic, partition) USING (topic, partition)
"""


def note(connection: psycopg.Connection, committed: Mapping[Partition, CommitPoint]) -> None:
    """Keep these committed offsets, unless higher ones stand there: one transaction, one trip."""
    points = [(at.topic, at.number, point.offset) for at, point in committed.items()]
    with connection.pipeline(), connection.cursor(binary=True) as cursor:
        cursor.execute("BEGIN")
        cursor.execute(_NOT_WAITING)
        cursor.execute(_NOTE, [list(column) for column in zip(*points, strict=True)])
        cursor.execute("COMMIT")


def answered(connection: psycopg.Connection, partitions: Collection[Partition]) -> dict[Partition, int]:
    """Return what is known of these partitions; of a new one nothing."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(_ANSWERED, [[at.topic for at in partitions], [at.number for at in partitions]])
        return {Partition(topic, number): offset for topic, number, offset in cursor}
