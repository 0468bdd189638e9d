"""Look at what lies below an offset, without a trace: no group, no commit. For proofs of where a group stands."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from onceloop.errors import Busy
from onceloop.records import InputRecord, Partition

ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.2
WINDOW_OFFSETS = 100
"""So far back at first, ten times as far with each further look: most looks find what they want at once."""


class Looker:
    """Reads as a read_committed consumer sees it. Every method raises Busy if the broker does not answer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return the earliest offset and the end."""
        try:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), ANSWER_SECONDS, cached=False)
        except KafkaException as error:
            raise Busy(f"bounds of {partition.topic}[{partition.number}]: {error.args[0].str()}") from error
        return int(low), int(high)

    def newest_below(self, partition: Partition, offset: int) -> Iterator[InputRecord]:
        """Yield the records below this offset, the newest first, without their headers."""
        first, end = self.bounds(partition)
        end, window = min(offset, end), WINDOW_OFFSETS
        while end > first:
            begin = max(first, end - window)
            yield from reversed(self._between(partition, begin, end))
            end, window = begin, 10 * window

    def _between(self, partition: Partition, begin: int, end: int) -> list[InputRecord]:
        found: list[InputRecord] = []
        deadline = time.monotonic() + ANSWER_SECONDS
        self._consumer.assign([TopicPartition(*partition, begin)])
        while time.monotonic() < deadline:
            message = self._consumer.poll(POLL_SECONDS)
            if message is None:
                continue
            error, at = message.error(), message.offset()
            if error is None and at is not None and at < end:
                found.append(InputRecord(partition, at, message.key(), message.value()))
                deadline = time.monotonic() + ANSWER_SECONDS
            elif error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public name of librdkafka
                return found
        raise Busy(f"{partition.topic}[{partition.number}] below {end} cannot be read")


@contextmanager
def looking(options: Mapping[str, Any]) -> Iterator[Looker]:
    """Open a reader; `options`: those of an admin client."""
    consumer = Consumer(
        {
            **options,
            "group.id": "looker",  # the client wants one; nothing is ever stored under it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # retention may take the first away under us; it is not missed
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            "log_level": 2,  # what fails is raised
        }
    )
    try:
        yield Looker(consumer)
    finally:
        consumer.close()


def earliest(options: Mapping[str, Any], partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Return the first offset that is there, per partition. Raises Busy if the broker does not answer."""
    wanted = sorted(partitions)
    if not wanted:
        return {}
    with looking(options) as looker:
        return {partition: looker.bounds(partition)[0] for partition in wanted}
