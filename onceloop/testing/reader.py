"""Read what a trial left behind: a plain read_committed consumer and psycopg. No code of the loop.

Topic names lose the trial's prefix here.
"""

import io
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from psycopg import sql

from onceloop.testing.case import CaseError, Rows
from onceloop.testing.facts import DeadLetter, Decided, Place, Published, Row, Written

SECONDS = 15.0
"""How long reading may take; a transaction that hangs open blocks readers for the 10 s of its time-out."""
LAYOUT = b"\x01"
_END = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's local codes are spelt so
_LEADER_UNKNOWN = KafkaError._UNKNOWN_PARTITION  # noqa: SLF001 - the same
LOOK_AGAIN_SECONDS = 0.05

SILENT = logging.getLogger("onceloop.testing.client")
"""Takes librdkafka's lines: what a broker of a test has to say is of no use to its reader."""
SILENT.addHandler(logging.NullHandler())
SILENT.propagate = False


class TopicReader:
    """Reads topics from their beginning to their end. `options`: of the client, where the broker is among them."""

    def __init__(self, options: Mapping[str, Any], *, group: str, prefix: str) -> None:
        self._options = {**options, "group.id": group}  # asked for its offsets; never joined
        self._prefix = prefix
        # One that waits for open transactions, and one that sees past them: else a hanging one would hide records.
        self._consumer = self._opened("read_committed")
        self._looker = self._opened("read_uncommitted")

    def close(self) -> None:
        """Let the clients go."""
        self._consumer.close()
        self._looker.close()

    def published(self, topics: Iterable[str]) -> tuple[list[Published], list[str]]:
        """Return the records of these topics, and the partitions that could not be read to their end."""
        found: list[Published] = []
        partitions = [each for topic in topics for each in self._partitions(topic)]
        ends = self._ends(partitions)
        self._consumer.assign([TopicPartition(p.topic, p.partition, 0) for p in partitions])
        unread = _read_to_end(self._consumer, ends, lambda message: found.append(self._published(message)))
        self._consumer.unassign()
        return found, [self._own(topic) + f"[{number}]" for topic, number in sorted(unread)]

    def dead_letters(self, topics: Iterable[str]) -> list[DeadLetter]:
        """Return what is on the dead-letter topics, each with the reason that it gives."""
        return [
            DeadLetter(
                place, record, (dict(record.headers).get("dlq_reason") or b"none given").decode(errors="replace")
            )
            for place, record in self.published(topics)[0]
        ]

    def offsets(self, topics: Iterable[str]) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
        """Return per partition the committed offset of the group (-1: none) and the end. Raises KafkaException."""
        partitions = [each for topic in topics for each in self._partitions(topic)]
        ends = {(self._own(topic), number): end for (topic, number), end in self._ends(partitions).items()}
        committed = self._consumer.committed(partitions, timeout=SECONDS)
        if failed := [each.error for each in committed if each.error is not None]:
            raise KafkaException(failed[0])
        return {(self._own(p.topic), p.partition): max(p.offset, -1) for p in committed}, ends

    def _ends(self, partitions: list[TopicPartition]) -> dict[tuple[str, int], int]:
        """Return what lies behind the last record, committed or not."""
        return {(p.topic, p.partition): self._end(p) for p in partitions}

    def _end(self, partition: TopicPartition) -> int:
        """Return one end. The client answers at once while it does not know the leader yet, so it is waited for."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return int(self._looker.get_watermark_offsets(partition, timeout=SECONDS, cached=False)[1])
            except KafkaException as error:
                if error.args[0].code() != _LEADER_UNKNOWN or time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_AGAIN_SECONDS)

    def _opened(self, isolation: str) -> Consumer:
        options = {
            **self._options,
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
        }
        return Consumer(options, logger=SILENT)

    def _partitions(self, topic: str) -> list[TopicPartition]:
        name = self._prefix + topic
        found = self._looker.list_topics(name, timeout=SECONDS).topics[name]
        if found.error is not None:
            raise KafkaException(found.error)
        return [TopicPartition(name, number) for number in found.partitions]

    def _own(self, topic: str) -> str:
        return topic.removeprefix(self._prefix)

    def _published(self, message: Any) -> Published:
        topic = self._own(message.topic())
        record = Written(topic, message.key(), message.value(), tuple(message.headers() or ()))
        return Published(Place(topic, message.partition(), message.offset()), record)


def decided(connection: psycopg.Connection, *, schema: str, prefix: str) -> list[Decided]:
    """Return all rows of the table of decisions."""
    columns = sql.SQL('key, topic, partition, "offset", records, refused')
    query = sql.SQL("SELECT {} FROM {}.decided").format(columns, sql.Identifier(schema))
    return [
        Decided(bytes(key), Place(topic.removeprefix(prefix), number, offset), written(bytes(records), prefix), refused)
        for key, topic, number, offset, records, refused in connection.execute(query)
    ]


def effects(connection: psycopg.Connection, source: str | Callable[[psycopg.Connection], Rows]) -> list[Row]:
    """Return the rows that a case calls the effects. Raises CaseError if PostgreSQL refuses the query."""
    try:
        rows: Iterable[Sequence[object]]
        rows = source(connection) if callable(source) else connection.execute(source.encode())
        return [tuple(row) for row in rows]
    except psycopg.Error as error:
        raise CaseError(f"effects: {error}") from error


def _read_to_end(
    consumer: Consumer, ends: dict[tuple[str, int], int], take: Callable[[Any], None]
) -> set[tuple[str, int]]:
    """Hand over all records up to these ends; return the partitions whose end stays out of sight."""
    unread = {at for at, end in ends.items() if end}
    deadline = time.monotonic() + SECONDS
    while unread and time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is None:
            continue
        error = message.error()
        if error is None:
            take(message)
        elif error.code() != _END:
            raise KafkaException(error)
        elif (message.offset() or 0) >= ends[_at(message)]:
            unread.discard(_at(message))
    return unread


def _at(message: Any) -> tuple[str, int]:
    return message.topic(), message.partition()


def written(stored: bytes, prefix: str) -> tuple[Written, ...]:
    """Return the records that a decision holds, from the layout that `onceloop/stored_records.py` describes.

    Read here by code of its own: an error there must not excuse itself.
    """
    source = io.BytesIO(stored)
    if source.read(1) != LAYOUT:
        raise ValueError(f"stored records of a layout that the reader does not know: {stored[:1]!r}")
    found = []
    while head := source.read(13):
        topic = source.read(int.from_bytes(head[0:2])).decode()
        key, value = _part(source, head[2:6]), _part(source, head[6:10])
        headers = [_header(source) for _ in range(int.from_bytes(head[11:13]))]
        found.append(Written(topic.removeprefix(prefix), key, value, tuple(headers)))
    return tuple(found)


def _header(source: BinaryIO) -> tuple[str, bytes | None]:
    name_size, value_size = source.read(2), source.read(4)
    return source.read(int.from_bytes(name_size)).decode(), _part(source, value_size)


def _part(source: BinaryIO, size: bytes) -> bytes | None:
    wanted = int.from_bytes(size, signed=True)
    return source.read(wanted) if wanted >= 0 else None
