"""Topics, first group offsets, lag: what is done to a cluster from outside the loops.

Every call is bounded, and everything that creates may be repeated. Names come from the table of topics.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from common.config import KafkaSettings
from common.errors import FatalError, PipelineError
from common.kafka.group_offsets import group_offsets
from common.kafka.options import admin_options
from common.kafka.records import CommitPoint, Partition
from common.topics import ALL_TOPICS, Group, Topic

CONNECT_SECONDS = 10.0
"""After so long without any answer a broker counts as absent."""

SETTLE_SECONDS = 20.0
"""How long a cluster may take that answers "not yet", or slowly."""

UNSTABLE_SECONDS = 20.0
"""A killed worker's transaction lasts 10 s, and up to 10 s more until the broker looks."""

LOADED_SECONDS = 5.0  # so long a group with records to read and no offset is looked at before it counts as new
ATTEMPT_SECONDS = 1.0
"""The first attempt; each further one takes twice as long. The client looks a leader or a coordinator up once and then
only waits, which on a new cluster it does in vain: better ask anew."""

_SLACK_SECONDS = 1.0  # a request keeps its own time-out, more or less
_SETTLING_WAIT_SECONDS = 0.05
_LOADING_WAIT_SECONDS = 0.5
_SETTLING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._NOENT,  # noqa: SLF001 - a public name of librdkafka: no leader is known yet
        KafkaError._TIMED_OUT,  # noqa: SLF001 - as above
    }
)
"""What a cluster answers for a moment while a topic, a leader or a coordinator is new."""
_AWAY = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT})  # noqa: SLF001 - as above
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one group stands behind on one partition, in offsets.

    Commit markers take offsets too: behind the last record of a transactional topic a lag of 1 and more may stay.
    """

    group: str
    partition: Partition
    committed: int | None
    stable_end: int

    @property
    def records_max(self) -> int:
        """Return how many records may be unread, or all of them if the group has no offset."""
        return self.stable_end - (self.committed or 0)


class Admin:
    """An admin client for one namespace of one cluster. Its methods raise FatalError if the broker does not answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._options = {**admin_options(settings), "log_level": 2}  # what fails is raised, once
        self._client = AdminClient(self._options)
        self._namespace = settings.namespace
        self._bootstrap = settings.kafka_bootstrap

    def create_topics(
        self, topics: Sequence[Topic] = ALL_TOPICS, *, replication: int = 1, min_insync: int = 1
    ) -> tuple[str, ...]:
        """Create the missing topics and bring the options of the others to the table; return the names of the new.

        Raises PipelineError if one stands there with another number of partitions: keys would change theirs.
        """
        wanted = {topic.within(self._namespace): topic for topic in topics}
        standing = {name: len(topic.partitions) for name, topic in self._metadata().items() if name in wanted}
        for name, count in standing.items():
            if count != wanted[name].partitions:
                raise PipelineError(
                    f"topic {name} has {count} partitions instead of {wanted[name].partitions}",
                    cure="delete the topic if nobody needs it, or set another PIPELINE_NAMESPACE",
                )
        self._configure({name: wanted[name] for name in standing}, min_insync)
        created = [name for name in wanted if name not in standing]
        self._create(
            [
                NewTopic(name, wanted[name].partitions, replication, config=_options(wanted[name], min_insync))
                for name in created
            ]
        )
        return tuple(created)

    def write_first_offsets(self, topics: Sequence[Topic] = ALL_TOPICS) -> dict[str, int]:
        """Give each group an offset, the earliest, on every partition it reads and has none for; return how many each.

        From then on `auto.offset.reset=error` holds, and no worker ever guesses. A group that has them all is left
        alone, with live members too. Raises PipelineError if one lacks some while its members are alive: the broker
        accepts none then.
        """
        return {group.within(self._namespace): self._first_offsets(group, read) for group, read in _readers(topics)}

    def options(self, topic: Topic) -> dict[str, str]:
        """Return the options that hold for a topic, the broker's defaults included."""
        resource = ConfigResource(ResourceType.TOPIC, topic.within(self._namespace))
        described = self._call(lambda limit: self._client.describe_configs([resource], request_timeout=limit))
        return {name: entry.value for entries in described.values() for name, entry in entries.items()}

    def topic_ids(self, topics: Iterable[Topic]) -> dict[str, str]:
        """Return topic name on the cluster -> id, which differs once the topic was deleted and made again."""
        names = [topic.within(self._namespace) for topic in topics]
        described = self._call(
            lambda limit: self._client.describe_topics(TopicCollection(names), request_timeout=limit)
        )
        return {name: str(result.topic_id) for name, result in described.items()}

    def committed(self, group: Group) -> dict[Partition, CommitPoint]:
        """Return the group's committed offsets and metadata; wait at most 20 s for a transaction that is open now."""
        standing = self._metadata()
        return self._committed(
            group,
            [
                Partition(name, number)
                for name in (topic.within(self._namespace) for topic in ALL_TOPICS if group in topic.readers)
                if name in standing
                for number in standing[name].partitions
            ],
        )

    def stable_ends(self, topics: Iterable[Topic]) -> dict[Partition, int]:
        """Return the end of what a read_committed reader may see, per partition."""
        return self._offsets(self._partitions(topics), _LATEST)

    def lag(self, topics: Sequence[Topic] = ALL_TOPICS) -> tuple[Lag, ...]:
        """Return the lag of every group on every partition it reads, also of groups whose members are all dead."""
        ends = self.stable_ends(topic for topic in topics if topic.readers)
        rows = []
        for group, read in _readers(topics):
            partitions = self._partitions(read)
            committed = {at: point.offset for at, point in self._seen(group, partitions).items()}
            rows += [
                Lag(group.within(self._namespace), partition, committed.get(partition), ends[partition])
                for partition in sorted(partitions)
            ]
        return tuple(rows)

    def delete_topics(self, topics: Sequence[Topic] = ALL_TOPICS) -> None:
        """Delete these topics of the namespace, with all they hold; those that do not exist are passed over."""
        names = [topic.within(self._namespace) for topic in topics]
        self._call(
            lambda limit: self._client.delete_topics(names, operation_timeout=limit, request_timeout=limit),
            passing=KafkaError.UNKNOWN_TOPIC_OR_PART,
        )

    def delete_groups(self, groups: Sequence[Group]) -> None:
        """Delete these groups of the namespace, which must have no live member; the absent are passed over."""
        names = [group.within(self._namespace) for group in groups]
        self._call(
            lambda limit: self._client.delete_consumer_groups(names, request_timeout=limit),
            passing=KafkaError.GROUP_ID_NOT_FOUND,
        )

    def _metadata(self) -> Mapping[str, Any]:
        """Return what the broker says now of every topic, by name."""
        try:
            return self._client.list_topics(timeout=CONNECT_SECONDS).topics
        except KafkaException as error:
            raise self._unreachable(error) from error

    def _create(self, topics: list[NewTopic]) -> None:
        if topics:
            self._call(
                lambda limit: self._client.create_topics(topics, operation_timeout=limit, request_timeout=limit),
                passing=KafkaError.TOPIC_ALREADY_EXISTS,
            )
            self._await_leaders([topic.topic for topic in topics])

    def _await_leaders(self, names: Sequence[str]) -> None:
        """Wait until the broker names a leader for every partition: the client remembers a "no such topic" too long."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self._led(names):
            if time.monotonic() > deadline:
                raise FatalError(
                    f"no leader for {', '.join(names)} after {SETTLE_SECONDS} s", cure="look at the broker's log"
                )
            time.sleep(_SETTLING_WAIT_SECONDS)

    def _led(self, names: Sequence[str]) -> bool:
        topics = self._metadata()
        return all(
            name in topics
            and topics[name].partitions
            and all(each.leader >= 0 for each in topics[name].partitions.values())
            for name in names
        )

    def _configure(self, topics: Mapping[str, Topic], min_insync: int) -> None:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                name,
                incremental_configs=[
                    ConfigEntry(option, value, incremental_operation=AlterConfigOpType.SET)
                    for option, value in _options(topic, min_insync).items()
                ],
            )
            for name, topic in topics.items()
        ]
        if resources:
            self._call(lambda limit: self._client.incremental_alter_configs(resources, request_timeout=limit))

    def _first_offsets(self, group: Group, topics: Sequence[Topic]) -> int:
        missing = self._without_offset(group, self._partitions(topics))
        if not missing:
            return 0
        group_id = group.within(self._namespace)
        first = self._offsets(missing, _EARLIEST)
        request = [
            ConsumerGroupTopicPartitions(group_id, [TopicPartition(*at, offset) for at, offset in first.items()])
        ]
        answer = self._call(
            lambda limit: self._client.alter_consumer_group_offsets(request, request_timeout=limit),
            passing=KafkaError.UNKNOWN_MEMBER_ID,
        )
        refused = [at for at in answer[group_id].topic_partitions if at.error] if answer else missing
        if refused:
            raise PipelineError(
                f"group {group_id} has live members and no offset on {len(refused)} partitions",
                cure="stop its members, provision, start them again",
            )
        return len(missing)

    def _without_offset(self, group: Group, partitions: Sequence[Partition]) -> list[Partition]:
        """Return where the group has no offset; where records stand, only if some seconds later it has none either.

        A broker that loads its groups a second time knows none of them for a while, and says so without an error.
        """
        missing = self._missing(group, partitions)
        until = time.monotonic() + (LOADED_SECONDS if any(self._offsets(missing, _LATEST).values()) else 0)
        while missing and time.monotonic() < until:
            time.sleep(_LOADING_WAIT_SECONDS)
            missing = self._missing(group, missing)
        return missing

    def _missing(self, group: Group, partitions: Sequence[Partition]) -> list[Partition]:
        return sorted(set(partitions) - self._committed(group, partitions).keys())

    def _committed(self, group: Group, partitions: Sequence[Partition]) -> dict[Partition, CommitPoint]:
        """Return the stable offsets; wait while an open transaction may yet change one.

        Taken for absent, an offset in an open transaction of a killed worker would be given to the group once more.
        """
        try:
            return self._stored(group, partitions, stable=True)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._TIMED_OUT and self._answers(group, partitions):  # noqa: SLF001 - as above
                raise FatalError(
                    f"group {group.within(self._namespace)} has had an open transaction for {UNSTABLE_SECONDS} s",
                    cure="end it: see docs/runbook.md, readers stand still",
                ) from error
            raise self._unreachable(error) from error

    def _seen(self, group: Group, partitions: Sequence[Partition]) -> dict[Partition, CommitPoint]:
        """Return the offsets as they are: whoever only looks has no reason to wait."""
        try:
            return self._stored(group, partitions, stable=False)
        except KafkaException as error:
            raise self._unreachable(error) from error

    def _answers(self, group: Group, partitions: Sequence[Partition]) -> bool:
        """Return True if the group's offsets can be had when nothing is waited for."""
        try:
            self._stored(group, partitions, stable=False, seconds=ATTEMPT_SECONDS)
        except KafkaException:
            return False
        return True

    def _stored(
        self, group: Group, partitions: Sequence[Partition], *, stable: bool, seconds: float = UNSTABLE_SECONDS
    ) -> dict[Partition, CommitPoint]:
        return group_offsets(
            self._options,
            group_id=group.within(self._namespace),
            partitions=partitions,
            stable=stable,
            seconds=seconds,
        )

    def _offsets(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(*partition): spec for partition in partitions}
        if not asked:
            return {}
        answer = self._call(
            lambda limit: self._client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=limit
            )
        )
        return {Partition(at.topic, at.partition): result.offset for at, result in answer.items()}

    def _partitions(self, topics: Iterable[Topic]) -> list[Partition]:
        return [
            Partition(topic.within(self._namespace), number) for topic in topics for number in range(topic.partitions)
        ]

    def _call(self, request: Callable[[float], Mapping[Any, Future[T]]], *, passing: int | None = None) -> dict[Any, T]:
        """Send one request and return its results; an item that ends with the error `passing` is left out.

        `request` takes the seconds that an attempt may last. What a cluster answers while a topic or a coordinator is
        new is asked again within the deadline.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        limit = ATTEMPT_SECONDS
        while True:
            try:
                return _results(request(limit), limit + _SLACK_SECONDS, passing)
            except KafkaException as error:
                if error.args[0].code() not in _SETTLING or time.monotonic() + limit > deadline:
                    raise self._unreachable(error) from error
                if error.args[0].code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - a public name of librdkafka
                    limit *= 2
            time.sleep(_SETTLING_WAIT_SECONDS)

    def _unreachable(self, error: KafkaException) -> PipelineError:
        cause: KafkaError = error.args[0]
        if cause.code() in _AWAY:
            return FatalError(
                f"no broker answers at {self._bootstrap}: {cause.str()}",
                cure="start it, or correct PIPELINE_KAFKA_BOOTSTRAP",
            )
        if cause.code() in _SETTLING:
            return FatalError(
                f"the cluster at {self._bootstrap} is not ready after {SETTLE_SECONDS} s: {cause.str()}",
                cure="run `pipeline provision`, or look at the broker's log",
            )
        return PipelineError(f"the broker refuses: {cause.str()}")


def _results(futures: Mapping[Any, Future[T]], seconds: float, passing: int | None) -> dict[Any, T]:
    results = {}
    for name, future in futures.items():
        try:
            results[name] = future.result(seconds)
        except TimeoutError:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT)) from None  # noqa: SLF001 - as above
        except KafkaException as error:
            if error.args[0].code() != passing:
                raise
    return results


def _options(topic: Topic, min_insync: int) -> dict[str, str]:
    """Return the topic's options, all that the table or the guarantee decides."""
    return {
        "cleanup.policy": "delete",  # every order is a fact of its own: no key replaces another
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.message_bytes_max),
        "min.insync.replicas": str(min_insync),
    }


def _readers(topics: Sequence[Topic]) -> list[tuple[Group, list[Topic]]]:
    """Return each group with the topics it reads."""
    groups = dict.fromkeys(group for topic in topics for group in topic.readers)
    return [(group, [topic for topic in topics if group in topic.readers]) for group in groups]
