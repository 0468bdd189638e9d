"""Read stretches of partitions as a read_committed reader would, without a group: no membership, no commit."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from onceloop.kafka.group_consumer import input_records
from onceloop.records import InputRecord, Partition

CHUNK_RECORDS = 1000
POLL_SECONDS = 0.1
REQUEST_SECONDS = 5.0


@dataclass(slots=True)
class Span:
    """A stretch of one partition while it is read: all below `reached` is read, and it ends before `end`."""

    reached: int
    end: int

    @property
    def done(self) -> bool:
        """Return True once all of it is read."""
        return self.reached >= self.end


class SpanReader:
    """A consumer that is assigned what it reads. Its methods raise KafkaException."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._consumer = Consumer(
            {
                **options,
                "group.id": "span-reader",  # the client wants one; nothing is ever stored under it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",  # what retention takes away under us is missed, and said
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset of each partition, and the end of what a read_committed reader may see."""
        return {
            at: self._consumer.get_watermark_offsets(TopicPartition(*at), timeout=REQUEST_SECONDS, cached=False)
            for at in partitions
        }

    def read(self, spans: Mapping[Partition, Span], *, seconds: float) -> Iterator[list[InputRecord]]:
        """Yield the records of the spans as they come, in order per partition, until all are done or the time is over.

        The spans follow: what was yielded lies below `reached`. The caller who wants the rest calls again.
        """
        left = {at: span for at, span in spans.items() if not span.done}
        self._consumer.assign([TopicPartition(*at, span.reached) for at, span in left.items()])
        try:
            deadline = time.monotonic() + seconds
            while not all(span.done for span in left.values()) and time.monotonic() < deadline:
                records = [
                    record
                    for message in self._consumer.consume(CHUNK_RECORDS, POLL_SECONDS)
                    if (record := _followed(message, left)) is not None
                ]
                if records:
                    yield records
        finally:
            with suppress(KafkaException):  # the first error is the one to report
                self._consumer.unassign()

    def close(self) -> None:
        """Let go of the client."""
        self._consumer.close()


def _followed(message: Message, spans: Mapping[Partition, Span]) -> InputRecord | None:
    """Move the message's span on; return its record if that belongs to it."""
    error = message.error()
    span = spans.get(Partition(str(message.topic()), message.partition() or 0))
    offset = message.offset() or 0
    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public name of librdkafka
        raise KafkaException(error)
    if span is None or span.done:
        return None
    if error is not None or offset >= span.end:
        span.reached = max(span.reached, min(offset, span.end))  # markers and aborted records lay between
        return None
    if offset < span.reached:
        return None
    span.reached = offset + 1
    return input_records([message])[0]
