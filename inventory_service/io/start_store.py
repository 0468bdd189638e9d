"""SQL of what guards a start: how often processes began at one offset, and which topic the coordinates belong to."""

from collections.abc import Collection

import psycopg

from onceloop.records import Partition

_COUNT_START = """
INSERT INTO inventory.start AS s (topic, partition, committed_offset, starts) VALUES (%s, %s, %s, 1)
ON CONFLICT (topic, partition) DO UPDATE SET
    starts = CASE WHEN s.committed_offset = EXCLUDED.committed_offset THEN s.starts + 1 ELSE 1 END,
    committed_offset = EXCLUDED.committed_offset
RETURNING starts
"""
_BEGUN = """
SELECT topic, partition FROM inventory.start
JOIN unnest(%b::text[], %b::int[]) AS asked (topic, partition) USING (topic, partition)
"""
_TAKE_BACK = """
UPDATE inventory.start SET starts = greatest(starts - 1, 1) WHERE topic = %s AND partition = %s
"""
_REMEMBER_TOPIC = """
INSERT INTO inventory.input_topic AS t (topic, topic_id) VALUES (%s, %s)
ON CONFLICT (topic) DO UPDATE SET topic = EXCLUDED.topic
RETURNING t.topic_id
"""


def count_start(connection: psycopg.Connection, partition: Partition, offset: int) -> int:
    """Return how many processes have begun to work at this offset, this one included."""
    row = connection.execute(_COUNT_START, [partition.topic, partition.number, offset]).fetchone()
    assert row is not None  # noqa: S101 - RETURNING returns
    return int(row[0])


def begun(connection: psycopg.Connection, partitions: Collection[Partition]) -> set[Partition]:
    """Return the partitions at which a process has begun to work."""
    asked = [[at.topic for at in partitions], [at.number for at in partitions]]
    return {Partition(topic, number) for topic, number in connection.execute(_BEGUN, asked)}


def take_start_back(connection: psycopg.Connection, partition: Partition) -> None:
    """Count one process less: it ended in order."""
    connection.execute(_TAKE_BACK, [partition.topic, partition.number])


def remembered_topic_id(connection: psycopg.Connection, *, topic: str, topic_id: str) -> str:
    """Return the id that was first seen for this topic's name; remember this one if there is none."""
    row = connection.execute(_REMEMBER_TOPIC, [topic, topic_id]).fetchone()
    assert row is not None  # noqa: S101 - RETURNING returns
    return str(row[0])
