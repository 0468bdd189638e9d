"""What a group needs of a cluster before its first start: topics, and a first offset on each partition.

Every call is bounded and may be repeated. Topics that exist are left as they are.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]  # without __all__

from onceloop.config import DEAD_LETTER_BYTES_MAX, KafkaConfig
from onceloop.errors import FatalError, ReportedError
from onceloop.kafka.answers import results
from onceloop.kafka.first_offsets import LOADED_SECONDS
from onceloop.kafka.group_offsets import group_offsets, set_group_offsets
from onceloop.kafka.options import admin_options
from onceloop.records import CommitPoint, Partition

ANSWER_SECONDS = 10.0
SETTLE_SECONDS = 20.0
UNSTABLE_SECONDS = 20.0
"""A killed process's transaction lasts 10 s, and up to 10 s more until the broker looks."""
PAUSE_SECONDS = 0.2
_NOT_YET = frozenset({
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._NOENT,  # noqa: SLF001 - a public name of librdkafka: no leader is known yet
})  # fmt: skip
_AWAY = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT})  # noqa: SLF001 - as above
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Cluster:
    """An admin client. Its methods raise FatalError if the broker does not answer, ReportedError if it refuses."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._bootstrap = kafka.bootstrap
        self._options = {**admin_options(kafka), "log_level": 2}  # what fails is raised
        self._client = AdminClient(self._options)

    def missing(self, topics: Collection[str]) -> list[str]:
        """Return those of these topics that do not exist."""
        standing = self._topics()
        return [name for name in topics if name not in standing]

    def refuse_missing(self, topics: Collection[str]) -> None:
        """Raise ReportedError if one of these topics does not exist."""
        if missing := self.missing(topics):
            raise ReportedError(f"there is no topic {', '.join(missing)}", cure="create it, or run init with --topics")

    def create(self, topics: Collection[str], *, partitions: int) -> None:
        """Create these topics with the broker's own number of copies, and wait until each partition has a leader."""
        new = [
            NewTopic(name, partitions, -1, config={"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)})
            if name.endswith(".dlq")
            else NewTopic(name, partitions, -1)
            for name in topics
        ]
        if new:
            self._ask(lambda: self._client.create_topics(new), passing=KafkaError.TOPIC_ALREADY_EXISTS)
            self._await_leaders(topics)

    def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """Return topic -> id, which differs once a topic was deleted and made again. Raises ReportedError for none."""
        self.refuse_missing(topics)
        described = self._ask(lambda: self._client.describe_topics(TopicCollection(list(topics))))
        return {name: str(result.topic_id) for name, result in described.items()}

    def without_offset(self, group_id: str, topics: Iterable[str]) -> list[Partition]:
        """Return where the group has no offset; where records stand, only if some seconds later it has none either.

        A broker that loads its groups knows none of their offsets for a while, and says so without an error.
        """
        standing = self._topics()
        missing = self._without(group_id, [Partition(topic, n) for topic in topics for n in standing[topic].partitions])
        until = time.monotonic() + (LOADED_SECONDS if any(self._offsets(missing, _LATEST).values()) else 0)
        while missing and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)
            missing = self._without(group_id, missing)
        return missing

    def begin_at_earliest(self, group_id: str, partitions: Collection[Partition]) -> None:
        """Set the group's offset to the first record of each partition. Raises ReportedError if it has live members."""
        points = {at: CommitPoint(offset) for at, offset in self._offsets(partitions, _EARLIEST).items()}
        set_group_offsets(self._options, group_id=group_id, points=points)

    def _without(self, group_id: str, partitions: list[Partition]) -> list[Partition]:
        try:
            found = group_offsets(
                self._options, group_id=group_id, partitions=partitions, stable=True, seconds=UNSTABLE_SECONDS
            )
        except KafkaException as error:
            raise self._error(error) from error
        return [at for at in partitions if at not in found]

    def _offsets(self, partitions: Collection[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(*at): spec for at in partitions}
        if not asked:
            return {}
        found = self._ask(lambda: self._client.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED))
        return {Partition(at.topic, at.partition): result.offset for at, result in found.items()}

    def _topics(self) -> Mapping[str, Any]:
        try:
            return self._client.list_topics(timeout=ANSWER_SECONDS).topics
        except KafkaException as error:
            raise self._error(error) from error

    def _await_leaders(self, topics: Collection[str]) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self._led(topics):
            if time.monotonic() > deadline:
                raise FatalError(f"no leader for {', '.join(topics)}", cure="look at the broker's log")
            time.sleep(PAUSE_SECONDS)

    def _led(self, topics: Collection[str]) -> bool:
        standing = self._topics()
        return all(
            name in standing
            and standing[name].partitions
            and all(each.leader >= 0 for each in standing[name].partitions.values())
            for name in topics
        )

    def _ask(self, request: Any, *, passing: int | None = None) -> dict[Any, Any]:
        """Return the results; what a cluster answers while something is new is asked again."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                return results(request(), seconds=ANSWER_SECONDS, passing=passing)
            except KafkaException as error:
                if error.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                    raise self._error(error) from error
            time.sleep(PAUSE_SECONDS)

    def _error(self, error: KafkaException) -> ReportedError:
        cause = error.args[0]
        if cause.code() in _AWAY:
            text = f"no broker answers at {self._bootstrap}: {cause.str()}"
            return FatalError(text, cure="start it, or correct where it is")
        return ReportedError(f"the broker refuses: {cause.str()}")
