"""Read the topics as a foreign reader would: every partition, read_committed, from the earliest record to the end.

Nothing is joined and nothing is committed, so no group of the pipeline notices. The reader goes on where it stopped:
a wait and the judgement after it read each record once.
"""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Self, cast
from uuid import uuid4

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from chaos.checker.avro import Registry
from chaos.checker.books import Coordinate, Offsets, Spot, Stall
from chaos.checker.collector import Collector, Headers, Record
from chaos.checker.config import CheckerSettings
from chaos.checker.errors import StoreDownError
from common.topics import (
    DEAD_LETTER_TOPICS,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
    Group,
    Topic,
)

CALL_SECONDS = 10.0
CONSUME_MAX = 5000
CONSUME_SECONDS = 0.05

DOWNSTREAM_FIRST = (*DEAD_LETTER_TOPICS, NOTIFICATION_SENT, INVENTORY_RESERVED, INVENTORY_FAILED, ORDERS_CREATED)
"""Ends are taken in this order: whatever a record follows from is then below the end of its own topic."""

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's local codes are spelt so


class TopicReader:
    """All topics of one pipeline, read as far as it was asked to. `collected` holds what it found."""

    def __init__(self, settings: CheckerSettings) -> None:
        self._namespace = settings.namespace
        options = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2, **settings.kafka_options}
        self._admin = AdminClient(options)
        self._consumer = Consumer(
            {
                **options,
                "group.id": f"chaos-{uuid4()}",  # asked for by the client, never joined
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,  # tells the stable end, which markers keep away from the last record
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 32_768,
                **settings.kafka_consumer_options,
            }
        )
        self._partitions: dict[Topic, int] = {}
        self._position: dict[Spot, int] = {}
        self.begins: Offsets = {}
        self.collected = Collector(Registry(settings.registry_url), namespace=settings.namespace)
        self.last: dict[Spot, int] = {}
        """Offset of the last visible record per partition; a partition without records is absent."""

    def __enter__(self) -> Self:
        self._partitions = {topic: self._count_partitions(topic) for topic in DOWNSTREAM_FIRST}
        self.begins = self._offsets(DOWNSTREAM_FIRST, _EARLIEST)
        self._position = dict(self.begins)
        self._consumer.assign(
            [TopicPartition(self._cluster_name(spot.topic), spot.partition, at) for spot, at in self.begins.items()]
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ends(self) -> Offsets:
        """Return the present end of each partition, open transactions included."""
        found: dict[Spot, int] = {}
        for topic in DOWNSTREAM_FIRST:
            found |= self._offsets([topic], _LATEST)
        return found

    def committed(self, group: Group) -> Offsets:
        """Return the offsets of a group; one that hangs on an open transaction stands where it was before it."""
        return self._committed(group, stable=False) or {}

    def committed_stable(self, group: Group, *, seconds: float) -> Offsets | None:
        """Return the offsets of a group once none of them hangs on an open transaction; None if one still does."""
        deadline = time.monotonic() + seconds
        while (found := self._committed(group, stable=True)) is None and time.monotonic() < deadline:
            time.sleep(CONSUME_SECONDS)
        return found

    def _committed(self, group: Group, *, stable: bool) -> Offsets | None:
        request = [ConsumerGroupTopicPartitions(group.within(self._namespace))]
        try:
            futures = self._admin.list_consumer_group_offsets(
                request, require_stable=stable, request_timeout=CALL_SECONDS
            )
            found = [at for future in futures.values() for at in future.result(CALL_SECONDS).topic_partitions]
        except KafkaException as error:
            match error.args[0].code():
                case KafkaError.GROUP_ID_NOT_FOUND:
                    return {}
                case KafkaError.UNSTABLE_OFFSET_COMMIT:
                    return None
            raise _refused(error) from error
        if any(at.error is not None for at in found):
            return None
        return {Spot(self._short_name(at.topic), at.partition): at.offset for at in found if at.offset >= 0}

    def read_to(self, ends: Offsets, *, seconds: float) -> tuple[Stall, ...]:
        """Read until every partition stands at its end; return those that are held back after so long without news.

        Raises StoreDownError if the broker goes away.
        """
        deadline = time.monotonic() + seconds
        behind = self._behind(ends)
        while behind and time.monotonic() < deadline:
            if messages := self._consumer.consume(CONSUME_MAX, CONSUME_SECONDS):
                for message in messages:
                    self._accept(message)
                behind = self._behind(ends)
                deadline = time.monotonic() + seconds
        if behind:
            self._offsets([ORDERS_CREATED], _LATEST)  # the broker answers, so it is a transaction
        return tuple(Stall(Coordinate(*spot, self._position[spot]), ends[spot]) for spot in behind)

    def _behind(self, ends: Offsets) -> list[Spot]:
        return [spot for spot, end in ends.items() if self._position[spot] < end]

    def _accept(self, message: Message) -> None:
        spot = Spot(self._short_name(message.topic() or ""), message.partition() or 0)
        offset, error = message.offset() or 0, message.error()
        if error is None:
            self._position[spot] = offset + 1
            self.last[spot] = offset
            headers = cast("Callable[[], Headers]", message.headers)  # pairs, whatever a producer may pass
            self.collected.take(Record(Coordinate(*spot, offset), message.key(), message.value(), headers))
        elif error.code() == _END_OF_PARTITION:
            self._position[spot] = max(self._position[spot], offset)
        else:
            raise StoreDownError(f"cannot read {spot.topic} {spot.partition}: {error.str()}")

    def _count_partitions(self, topic: Topic) -> int:
        """Ask the cluster: the table of topics is what should be there, not what is."""
        name = topic.within(self._namespace)
        try:
            found = self._admin.list_topics(name, timeout=CALL_SECONDS).topics[name]
        except KafkaException as error:
            raise _refused(error) from error
        if found.error is not None:
            raise _refused(KafkaException(found.error))
        return len(found.partitions)

    def _offsets(self, topics: Iterable[Topic], spec: OffsetSpec) -> dict[Spot, int]:
        asked = {
            TopicPartition(topic.within(self._namespace), number): spec
            for topic in topics
            for number in range(self._partitions[topic])
        }
        try:
            futures = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=CALL_SECONDS
            )
            return {
                Spot(self._short_name(at.topic), at.partition): future.result(CALL_SECONDS).offset
                for at, future in futures.items()
            }
        except KafkaException as error:
            raise _refused(error) from error

    def _cluster_name(self, topic: str) -> str:
        return f"{self._namespace}.{topic}" if self._namespace else topic

    def _short_name(self, topic: str) -> str:
        return sys.intern(topic.removeprefix(f"{self._namespace}.") if self._namespace else topic)


def _refused(error: KafkaException) -> StoreDownError:
    cause = error.args[0]
    if cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return StoreDownError("the topics do not exist", cure="run: pipeline provision")
    return StoreDownError(f"the broker does not answer: {cause.str()}", cure="see: pipeline status")
