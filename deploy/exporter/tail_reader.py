"""Read the ends of partitions as a read_committed reader would, without a group, to see which offsets hold records."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from onceloop.records import Partition

READ_SECONDS = 2.0
POLL_SECONDS = 0.1
CHUNK_RECORDS = 500


@dataclass(slots=True)
class Tail:
    """One partition while it is read: from where it goes on, up to where; what was found."""

    reached: int
    stable: int
    records: list[int] = field(default_factory=list)
    done: bool = False


class TailReader:
    """A consumer that is assigned what it reads, and never joins or commits."""

    def __init__(self, options: Mapping[str, Any], *, group_id: str) -> None:
        self._consumer = Consumer(
            {
                **options,
                "group.id": group_id,  # the client wants one; nothing is ever stored under it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",  # retention may take the tail away under us
                "enable.partition.eof": True,
                "queued.min.messages": CHUNK_RECORDS,
                "queued.max.messages.kbytes": 4096,
                "fetch.wait.max.ms": 50,
            }
        )

    def read(self, spans: Mapping[Partition, tuple[int, int]]) -> dict[Partition, Tail]:
        """Read from the first offset up to the second, both per partition; stop after 2 s with what there is by then.

        Raises KafkaException if the client refuses.
        """
        tails = {partition: Tail(start, stable) for partition, (start, stable) in spans.items()}
        self._consumer.assign([TopicPartition(*partition, start) for partition, (start, _) in spans.items()])
        try:
            deadline = time.monotonic() + READ_SECONDS
            while not all(tail.done for tail in tails.values()) and time.monotonic() < deadline:
                for message in self._consumer.consume(CHUNK_RECORDS, POLL_SECONDS):
                    _note(message, tails)
        finally:
            with suppress(KafkaException):  # the first error is the one to report
                self._consumer.unassign()
        return tails

    def close(self) -> None:
        """Let go of the client."""
        self._consumer.close()


def _note(message: Message, tails: Mapping[Partition, Tail]) -> None:
    tail = tails.get(Partition(str(message.topic()), message.partition() or 0))
    offset = message.offset() or 0
    if tail is None or tail.done:
        return
    error = message.error()
    if error is None and tail.reached <= offset < tail.stable:
        tail.records.append(offset)
        tail.reached = offset + 1
    elif error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public name of librdkafka
        tail.reached = min(max(offset, tail.reached), tail.stable)
    else:
        tail.done = True  # what was read so far counts; the rest is reported as offsets
    tail.done = tail.done or tail.reached >= tail.stable
