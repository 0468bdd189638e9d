"""Read the newest records of a small topic and go on as they come, without a trace: no group, no commit.

For looking, not for processing: it begins where the caller says, and where it ended is not stored.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from onceloop.errors import FatalError

ANSWER_SECONDS = 10.0
POLL_SECONDS = 0.1
BATCH_RECORDS_MAX = 1000


class Follower:
    """One partition, read_committed, from some offsets before its end on."""

    def __init__(self, consumer: Consumer, topic: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._consumer = consumer
        self._topic = topic
        self._answer_seconds = answer_seconds
        self._at_end = False

    def begin(self, *, back: int) -> None:
        """Go so many offsets before the end. Raises FatalError if the broker does not answer, or has no such topic."""
        try:
            first, end = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), self._answer_seconds)
        except KafkaException as error:
            raise FatalError(
                f"topic {self._topic} cannot be read: {error.args[0].str()}",
                cure="is the broker up, and is the topic there?",
            ) from error
        self._consumer.assign([TopicPartition(self._topic, 0, max(first, end - back))])

    def standing(self) -> list[bytes]:
        """Return the values that stand there now. Raises FatalError if the broker does not hand them out in time."""
        values: list[bytes] = []
        deadline = time.monotonic() + self._answer_seconds
        while not self._at_end:
            values += self.more()
            if time.monotonic() > deadline:
                raise FatalError(f"topic {self._topic} cannot be read to its end", cure="look at the broker's log")
        return values

    def more(self) -> list[bytes]:
        """Return values that came since, or none after 0.1 s."""
        values = []
        for message in self._consumer.consume(BATCH_RECORDS_MAX, POLL_SECONDS):
            error, value = message.error(), message.value()
            if error is None:
                values += [value] if value is not None else []
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - a public name of librdkafka
                self._at_end = True
            elif error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise FatalError(f"the broker refuses: {error.str()}")
        return values


@contextmanager
def following(options: Mapping[str, Any], topic: str, *, answer_seconds: float = ANSWER_SECONDS) -> Iterator[Follower]:
    """Open a reader of the only partition of a topic, named as on the cluster; it waits so long for the broker."""
    consumer = Consumer(
        {
            **options,
            "group.id": "follower",  # the client wants one; nothing is ever stored under it
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
        yield Follower(consumer, topic, answer_seconds=answer_seconds)
    finally:
        consumer.close()
