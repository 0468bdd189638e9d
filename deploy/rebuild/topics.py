"""Read whole topics, once no process writes to them any more."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

from confluent_kafka import KafkaException

from common.config import KafkaSettings
from common.topics import Group, Topic
from deploy.offsets.cluster import Cluster
from onceloop.errors import FatalError
from onceloop.kafka.span_reader import Span, SpanReader
from onceloop.records import InputRecord, Partition

READ_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""After this time without a record the broker counts as absent."""

Report = Callable[[str, int, int], None]
"""What is read, how many of its offsets so far, and of how many."""


class Topics:
    """The topics of one namespace. Its methods raise ReportedError if the broker does not do as asked."""

    def __init__(self, settings: KafkaSettings, report: Report) -> None:
        self._cluster = Cluster(settings)
        self._namespace = settings.namespace
        self._report = report

    def await_no_members(self, groups: Sequence[Group]) -> None:
        """Return once none of these groups has a member. Raises ReportedError if one still has some."""
        for group in groups:
            self._cluster.await_empty(group.within(self._namespace))

    def committed(self, group: Group, topic: Topic) -> dict[Partition, int]:
        """Return the group's offset on each partition of the topic that it has one for."""
        partitions = self._cluster.partitions([topic.within(self._namespace)])
        return self._cluster.committed(group.within(self._namespace), partitions)

    def spans(self, *topics: Topic) -> dict[Partition, Span]:
        """Return all that stands on these topics, once no transaction is open there."""
        partitions = self._cluster.partitions([topic.within(self._namespace) for topic in topics])
        return {at: Span(first, end) for at, (first, end) in self._cluster.settled_ends(partitions).items()}

    def read(self, what: str, spans: Mapping[Partition, Span]) -> Iterator[list[InputRecord]]:
        """Yield all records of the spans, which follow."""
        total, moved = _left(spans), time.monotonic()
        try:
            with closing(SpanReader(self._cluster.options)) as reader:
                while left := _left(spans):
                    for records in reader.read(spans, seconds=READ_SECONDS):
                        yield records
                        self._report(what, total - _left(spans), total)
                    if _left(spans) < left:
                        moved = time.monotonic()
                    elif time.monotonic() - moved > SILENCE_SECONDS:
                        raise FatalError(f"{what} cannot be read to the end", cure="look at the broker's log")
        except KafkaException as error:
            raise FatalError(
                f"{what} cannot be read: {error.args[0].str()}", cure="is the stack up? see `pipeline status`"
            ) from error


def _left(spans: Mapping[Partition, Span]) -> int:
    return sum(max(0, span.end - span.reached) for span in spans.values())
