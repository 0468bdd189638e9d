"""An input topic and the group that works it off, looked at from outside: no membership, no commit."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaException

from common.config import KafkaSettings
from common.topics import Group, Topic, dead_letter_topic
from onceloop.dead_letter import source_of
from onceloop.errors import Busy
from onceloop.kafka.group_consumer import topic_partitions
from onceloop.kafka.options import admin_options
from onceloop.kafka.span_reader import Span, SpanReader
from onceloop.records import InputRecord, Partition

ANSWER_SECONDS = 2.0
READ_SECONDS = 5.0
RECORDS_MAX = 20_000
"""One reading: a loop is kept waiting by it, and its membership outlasts both."""
LETTERS_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of some spans. `firsts`: where each partition begins; `reached`: all from there to here is read."""

    records: list[InputRecord]
    firsts: Mapping[Partition, int]
    reached: Mapping[Partition, int]


class InputLog:
    """Opens a client for each question: they are rare. Its methods raise Busy if the broker does not answer."""

    def __init__(self, settings: KafkaSettings, *, topic: Topic, group: Group) -> None:
        self._options = {**admin_options(settings), "log_level": 2}  # what fails is raised
        self._topic = topic.within(settings.namespace)
        self._group_id = group.within(settings.namespace)
        self._letters = Partition(dead_letter_topic(topic, group).within(settings.namespace), 0)

    def committed(self) -> dict[Partition, int]:
        """Return the group's offset on each partition of the topic that it has one for.

        Offsets in an open transaction are not waited for: one slot whose transaction hangs must not stop the others.
        """
        options: dict[str, Any] = {
            **self._options,
            "group.id": self._group_id,
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
        }
        with _busy(f"offsets of {self._group_id}"), closing(Consumer(options)) as consumer:
            standing = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
            if standing.error is not None:
                raise KafkaException(standing.error)
            asked = topic_partitions([Partition(self._topic, number) for number in standing.partitions])
            found = consumer.committed(asked, timeout=ANSWER_SECONDS)
            if failed := next((each.error for each in found if each.error is not None), None):
                raise KafkaException(failed)
        return {Partition(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    def read(self, wanted: Mapping[Partition, tuple[int, int]]) -> Reading:
        """Read the records from the first offset up to the second, both per partition; for 5 s, or some 20,000 records.

        What retention has taken away, and what lies beyond the partition's end, counts as read.
        """
        records: list[InputRecord] = []
        with _busy(f"records of {self._topic}"), closing(SpanReader(self._options)) as reader:
            bounds = reader.bounds(wanted)
            spans = {
                at: Span(max(start, bounds[at][0]), min(end, bounds[at][1])) for at, (start, end) in wanted.items()
            }
            for chunk in reader.read(spans, seconds=READ_SECONDS):
                records += chunk
                if len(records) >= RECORDS_MAX:
                    break
        return Reading(
            records,
            {at: first for at, (first, _) in bounds.items()},
            {at: wanted[at][1] if span.done else span.reached for at, span in spans.items()},
        )

    def dead_letters(self) -> set[tuple[Partition, int]]:
        """Return the records that the group has dead-lettered, by their coordinates; waits for 20 s at most."""
        found: set[tuple[Partition, int]] = set()
        with _busy(f"records of {self._letters.topic}"), closing(SpanReader(self._options)) as reader:
            span = Span(*reader.bounds([self._letters])[self._letters])
            for chunk in reader.read({self._letters: span}, seconds=LETTERS_SECONDS):
                found.update(source for record in chunk if (source := source_of(record.headers())) is not None)
        if not span.done:
            raise Busy(f"{self._letters.topic} cannot be read to its end now")
        return found


@contextmanager
def _busy(asked: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise Busy(f"{asked}: {error.args[0].str()}") from error
