"""Topics, their partitions, first group offsets: what is done to a cluster from outside the loops.

Every call is bounded, and everything that creates may be repeated. Names come from the table of topics.
"""

import time
from collections.abc import Iterable, Mapping, Sequence

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
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from common.config import KafkaSettings
from common.kafka.admin_calls import ATTEMPT_SECONDS, SETTLE_SECONDS, SETTLING_WAIT_SECONDS, AdminCalls
from common.topics import ALL_TOPICS, Group, Topic
from onceloop.errors import FatalError, ReportedError
from onceloop.kafka.first_offsets import LOADED_SECONDS
from onceloop.kafka.group_offsets import group_offsets
from onceloop.kafka.options import admin_options
from onceloop.records import CommitPoint, Partition

UNSTABLE_SECONDS = 20.0
"""A killed worker's transaction lasts 10 s, and up to 10 s more until the broker looks."""

TAKEN_UP_SECONDS = 30.0
"""So long members may take to begin on partitions that were added: two looks at the group, a rebalance, five seconds of
asking for an offset."""
_LOADING_WAIT_SECONDS = 0.5
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Admin:
    """An admin client for one namespace of one cluster. Its methods raise FatalError if the broker does not answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._options = {**admin_options(settings.kafka), "log_level": 2}  # what fails is raised, once
        self._client = AdminClient(self._options)
        self._calls = AdminCalls(self._client, options=self._options, bootstrap=settings.kafka_bootstrap)
        self._namespace = settings.namespace

    def create_topics(
        self, topics: Sequence[Topic] = ALL_TOPICS, *, replication: int = 1, min_insync: int = 1
    ) -> tuple[str, ...]:
        """Create the missing topics and bring the options of the others to the table; return the names of the new.

        A topic may have grown beyond the table. For a moment the broker still lists one that was just deleted: it is
        created. Raises ReportedError if one has fewer partitions than the table says.
        """
        wanted = {topic.within(self._namespace): topic for topic in topics}
        standing = {name: len(topic.partitions) for name, topic in self._calls.metadata().items() if name in wanted}
        for name, count in standing.items():
            if count < wanted[name].partitions:
                raise ReportedError(
                    f"topic {name} has {count} partitions, fewer than {wanted[name].partitions}",
                    cure=f"pipeline topics grow {wanted[name].name} --partitions {wanted[name].partitions}",
                )
        configured = self._configure({name: wanted[name] for name in standing}, min_insync)
        created = [name for name in wanted if name not in configured]
        self._create(
            [
                NewTopic(name, wanted[name].partitions, replication, config=_options(wanted[name], min_insync))
                for name in created
            ]
        )
        return tuple(created)

    def partitions(self, topics: Iterable[Topic]) -> dict[Topic, int]:
        """Return how many partitions each of these topics has; one that does not exist is left out."""
        standing = self._calls.metadata()
        names = {topic: topic.within(self._namespace) for topic in topics}
        return {topic: len(standing[name].partitions) for topic, name in names.items() if name in standing}

    def add_partitions(self, counts: Mapping[Topic, int]) -> None:
        """Give each of these topics as many partitions in all; keys are redistributed over them, records stay.

        Raises ReportedError if one has as many already.
        """
        wanted = [NewPartitions(topic.within(self._namespace), count) for topic, count in counts.items()]
        if wanted:
            self._calls.call(
                lambda limit: self._client.create_partitions(wanted, operation_timeout=limit, request_timeout=limit)
            )
            self._await_leaders({each.topic: each.new_total_count for each in wanted})

    def unread(self, group: Group) -> frozenset[Partition] | None:
        """Return the partitions that are no member's share; None if the group has no members.

        While the group reassigns its partitions no member has one.
        """
        group_id = group.within(self._namespace)
        described = self._calls.call_coordinator(
            lambda client, limit: client.describe_consumer_groups([group_id], request_timeout=limit),
            passing=KafkaError.GROUP_ID_NOT_FOUND,
        )
        if group_id not in described or not described[group_id].members:
            return None
        read = self._partitions(topic for topic in ALL_TOPICS if group in topic.readers)
        return frozenset(read).difference(
            Partition(at.topic, at.partition)
            for member in described[group_id].members
            for at in member.assignment.topic_partitions
        )

    def write_first_offsets(self, topics: Sequence[Topic] = ALL_TOPICS) -> dict[str, int]:
        """Give each group an offset, the earliest, on every partition it reads and has none for; return how many each.

        From then on `auto.offset.reset=error` holds, and no worker ever guesses. A group that has them all is left
        alone, with live members too. While members are alive the broker accepts none from here; on partitions that were
        added they begin by themselves. Raises ReportedError if they do not.
        """
        return {group.within(self._namespace): self._first_offsets(group, read) for group, read in _readers(topics)}

    def options(self, topic: Topic) -> dict[str, str]:
        """Return the options that hold for a topic, the broker's defaults included."""
        resource = ConfigResource(ResourceType.TOPIC, topic.within(self._namespace))
        described = self._calls.call(lambda limit: self._client.describe_configs([resource], request_timeout=limit))
        return {name: entry.value for entries in described.values() for name, entry in entries.items()}

    def topic_ids(self, topics: Iterable[Topic]) -> dict[str, str]:
        """Return topic name on the cluster -> id, which differs once the topic was deleted and made again."""
        names = [topic.within(self._namespace) for topic in topics]
        described = self._calls.call(
            lambda limit: self._client.describe_topics(TopicCollection(names), request_timeout=limit)
        )
        return {name: str(result.topic_id) for name, result in described.items()}

    def committed(self, group: Group) -> dict[Partition, CommitPoint]:
        """Return the group's committed offsets and metadata; wait at most 20 s for a transaction that is open now."""
        standing = self._calls.metadata()
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

    def delete_topics(self, topics: Sequence[Topic] = ALL_TOPICS) -> None:
        """Delete these topics of the namespace, with all they hold; those that do not exist are passed over."""
        names = [topic.within(self._namespace) for topic in topics]
        self._calls.call(
            lambda limit: self._client.delete_topics(names, operation_timeout=limit, request_timeout=limit),
            passing=KafkaError.UNKNOWN_TOPIC_OR_PART,
        )

    def delete_groups(self, groups: Sequence[Group]) -> None:
        """Delete these groups of the namespace, which must have no live member; the absent are passed over."""
        names = [group.within(self._namespace) for group in groups]
        self._calls.call_coordinator(
            lambda client, limit: client.delete_consumer_groups(names, request_timeout=limit),
            passing=KafkaError.GROUP_ID_NOT_FOUND,
        )

    def _create(self, topics: list[NewTopic]) -> None:
        if topics:
            self._calls.call(
                lambda limit: self._client.create_topics(topics, operation_timeout=limit, request_timeout=limit),
                passing=KafkaError.TOPIC_ALREADY_EXISTS,
            )
            self._await_leaders({topic.topic: topic.num_partitions for topic in topics})

    def _await_leaders(self, counts: Mapping[str, int]) -> None:
        """Wait until the broker names a leader for every partition: the client remembers a "no such topic" too long."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not self._led(counts):
            if time.monotonic() > deadline:
                raise FatalError(
                    f"no leader for {', '.join(counts)} after {SETTLE_SECONDS} s", cure="look at the broker's log"
                )
            time.sleep(SETTLING_WAIT_SECONDS)

    def _led(self, counts: Mapping[str, int]) -> bool:
        topics = self._calls.metadata()
        return all(
            name in topics
            and len(topics[name].partitions) >= count
            and all(each.leader >= 0 for each in topics[name].partitions.values())
            for name, count in counts.items()
        )

    def _configure(self, topics: Mapping[str, Topic], min_insync: int) -> frozenset[str]:
        """Set the options of these topics; return those that exist, as the controller knows it."""
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
        if not resources:
            return frozenset()
        set_on = self._calls.call(
            lambda limit: self._client.incremental_alter_configs(resources, request_timeout=limit),
            passing=KafkaError.UNKNOWN_TOPIC_OR_PART,
        )
        return frozenset(resource.name for resource in set_on)

    def _first_offsets(self, group: Group, topics: Sequence[Topic]) -> int:
        missing = self._without_offset(group, self._partitions(topics))
        if not missing:
            return 0
        group_id = group.within(self._namespace)
        first = self._offsets(missing, _EARLIEST)
        request = [
            ConsumerGroupTopicPartitions(group_id, [TopicPartition(*at, offset) for at, offset in first.items()])
        ]
        answer = self._calls.call_coordinator(
            lambda client, limit: client.alter_consumer_group_offsets(request, request_timeout=limit),
            passing=KafkaError.UNKNOWN_MEMBER_ID,
        )
        refused = any(at.error for at in answer[group_id].topic_partitions) if answer else True
        if refused and (left := self._await_members(group, missing)):
            raise ReportedError(
                f"group {group_id} has live members and no offset on {len(left)} partitions",
                cure="stop its members, provision, start them again",
            )
        return len(missing)

    def _await_members(self, group: Group, missing: list[Partition]) -> list[Partition]:
        """Return what still has no offset once the group's members have had the time to begin there."""
        deadline = time.monotonic() + TAKEN_UP_SECONDS
        while missing and time.monotonic() < deadline:
            time.sleep(_LOADING_WAIT_SECONDS)
            missing = self._missing(group, missing)
        return missing

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
            raise self._calls.unreachable(error) from error

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
        answer = self._calls.call(
            lambda limit: self._client.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=limit
            )
        )
        return {Partition(at.topic, at.partition): result.offset for at, result in answer.items()}

    def _partitions(self, topics: Iterable[Topic]) -> list[Partition]:
        topics = tuple(topics)
        counts = self.partitions(topics)
        return [
            Partition(topic.within(self._namespace), number)
            for topic in topics
            for number in range(counts.get(topic, topic.partitions))
        ]


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
