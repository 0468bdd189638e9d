"""Ask the cluster: partitions, offsets by end or time, offsets of groups. Names come and go without the namespace."""

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import Any
from uuid import uuid4

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from audit.errors import StoreDownError
from audit.terms import Offsets, Spot
from common.config import KafkaSettings
from common.topics import ALL_TOPICS, Group, Topic

CALL_SECONDS = 10.0

_LEADER_CHANGES = frozenset(
    {
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._NOENT,  # noqa: SLF001 - a public name of librdkafka: no leader is known
    }
)
"""Answers of a moment. After the first and the last librdkafka looks no leader up by itself."""
SETTLING_WAIT_SECONDS = 0.05

EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Cluster:
    """One pipeline's part of a cluster. Every method raises StoreDownError if the broker does not answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._prefix = f"{settings.namespace}." if settings.namespace else ""
        self._options = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 2, **settings.kafka_options}
        self._consumer_options = settings.kafka_consumer_options
        self._admin = AdminClient(self._options)

    def consumer(self, begins: Offsets, options: Mapping[str, Any] | None = None) -> Consumer:
        """Return a consumer that reads from these offsets; it joins no group and commits nothing.

        It reads what is committed alone, unless `options` say otherwise.
        """
        consumer = Consumer(
            {
                **self._options,
                "group.id": f"chaos-{uuid4()}",  # asked for by the client, never joined
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,  # reports the stable end, which markers keep away from the last record
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 32_768,
                **self._consumer_options,
                **(options or {}),
            }
        )
        consumer.assign(self._points_of(begins))
        return consumer

    def assign_more(self, consumer: Consumer, begins: Offsets) -> None:
        """Have the consumer read these partitions as well, from these offsets on."""
        if begins:
            consumer.incremental_assign(self._points_of(begins))

    def leave_out(self, consumer: Consumer, spot: Spot) -> None:
        """Have the consumer read this partition no longer."""
        consumer.incremental_unassign([TopicPartition(self._prefix + spot.topic, spot.partition)])

    def spots(self, topic: Topic) -> tuple[Spot, ...]:
        """Return the topic's partitions as they are now: the table of topics is what should be there, and they grow."""
        name = self._prefix + topic.name
        try:
            found = self._admin.list_topics(name, timeout=CALL_SECONDS).topics[name]
        except KafkaException as error:
            raise _refused(error) from error
        if found.error is not None:
            raise _refused(KafkaException(found.error))
        return tuple(Spot(topic.name, number) for number in sorted(found.partitions))

    def identity(self) -> str:
        """Return the id that the cluster was given when it was made."""
        try:
            return str(self._admin.list_topics(timeout=CALL_SECONDS).cluster_id)
        except KafkaException as error:
            raise _refused(error) from error

    def topic_ids(self, topics: Iterable[Topic]) -> dict[str, str]:
        """Return the id of each topic, which is another one once the topic was recreated."""
        names = TopicCollection([self._prefix + topic.name for topic in topics])
        try:
            asked = self._admin.describe_topics(names, request_timeout=CALL_SECONDS)
            return {self.short_name(name): str(each.result(CALL_SECONDS).topic_id) for name, each in asked.items()}
        except KafkaException as error:
            raise _refused(error) from error

    def begins(self, topics: Iterable[Topic]) -> Offsets:
        """Return the first offset of each partition."""
        return self.offsets((spot for topic in topics for spot in self.spots(topic)), EARLIEST)

    def ends(self, topics: Iterable[Topic]) -> Offsets:
        """Return the end of each partition, open transactions included; topic by topic, in the order given."""
        found: dict[Spot, int] = {}
        for topic in topics:
            found |= self.offsets(self.spots(topic), LATEST)
        return found

    def stable_ends(self, topics: Iterable[Topic]) -> Offsets:
        """Return up to where a reader of committed records gets on each partition: below any open transaction."""
        spots = [spot for topic in topics for spot in self.spots(topic)]
        return self.offsets(spots, LATEST, isolation=IsolationLevel.READ_COMMITTED)

    def offsets(
        self,
        spots: Iterable[Spot],
        spec: OffsetSpec,
        *,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> Offsets:
        """Return what `spec` asks for, per partition; -1 if it asks for a time after the last record."""
        asked = {TopicPartition(self._prefix + spot.topic, spot.partition): spec for spot in spots}
        if not asked:
            return {}
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                return self._ask_offsets(asked, isolation)
            except KafkaException as error:
                if error.args[0].code() not in _LEADER_CHANGES or time.monotonic() > deadline:
                    raise _refused(error) from error
            with suppress(KafkaException):  # if no broker answers, the next request says so
                self._admin.list_topics(timeout=CALL_SECONDS)
            time.sleep(SETTLING_WAIT_SECONDS)

    def committed(self, group: Group) -> Offsets:
        """Return the offsets of a group; one that hangs on an open transaction stands where it was before it."""
        try:
            return self._committed(group, "read_uncommitted", seconds=CALL_SECONDS)
        except KafkaException as error:
            raise _refused(error) from error

    def metadata(self, group: Group) -> dict[Spot, str]:
        """Return the texts that a group stored beside its offsets; none where there is none."""
        try:
            found = self._points(group, "read_uncommitted", seconds=CALL_SECONDS)
        except KafkaException as error:
            raise _refused(error) from error
        return {Spot(self.short_name(at.topic), at.partition): at.metadata for at in found if at.metadata}

    def committed_stable(self, group: Group, *, seconds: float) -> Offsets | None:
        """Return the offsets of a group once none of them hangs on an open transaction; None if one still does."""
        try:
            return self._committed(group, "read_committed", seconds=seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001 - a public name of librdkafka
                raise _refused(error) from error
        self.committed(group)  # raises if it is the broker that does not answer
        return None

    def short_name(self, topic: str) -> str:
        """Return a topic's name in the table of topics."""
        return sys.intern(topic.removeprefix(self._prefix))

    def _ask_offsets(self, asked: dict[TopicPartition, OffsetSpec], isolation: IsolationLevel) -> Offsets:
        futures = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=CALL_SECONDS)
        return {
            Spot(self.short_name(at.topic), at.partition): future.result(CALL_SECONDS).offset
            for at, future in futures.items()
        }

    def _points_of(self, offsets: Offsets) -> list[TopicPartition]:
        return [TopicPartition(self._prefix + spot.topic, spot.partition, at) for spot, at in offsets.items()]

    def _committed(self, group: Group, isolation: str, *, seconds: float) -> Offsets:
        found = self._points(group, isolation, seconds=seconds)
        return {Spot(self.short_name(at.topic), at.partition): at.offset for at in found if at.offset >= 0}

    def _points(self, group: Group, isolation: str, *, seconds: float) -> list[TopicPartition]:
        """Ask by a consumer that joins nothing: the admin client's call may crash (librdkafka #5040)."""
        asked = [
            TopicPartition(self._prefix + spot.topic, spot.partition)
            for topic in ALL_TOPICS
            if group in topic.readers
            for spot in self.spots(topic)
        ]
        options = {
            **self._options,
            "group.id": self._prefix + group.name,
            "enable.auto.commit": False,
            "isolation.level": isolation,
        }
        with closing(Consumer(options)) as consumer:
            found = consumer.committed(asked, timeout=seconds)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return found


def at_time(time_ms: int) -> OffsetSpec:
    """Ask for the first record with this time stamp or a later one; milliseconds since the epoch."""
    spec: OffsetSpec = OffsetSpec.for_timestamp(time_ms)
    return spec


def _refused(error: KafkaException) -> StoreDownError:
    cause = error.args[0]
    if cause.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return StoreDownError("the topics do not exist", cure="run: pipeline provision")
    return StoreDownError(f"the broker does not answer: {cause.str()}", cure="see: pipeline status")
