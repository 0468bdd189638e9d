"""Look at a pipeline's topics and groups from outside, by what the broker alone says: no group is joined, or moved.

So a group is seen whose members are all dead, and a transaction that no process ends. One look asks the broker about
ten times and is bounded; what a group has committed is read first, so that it never lies behind the ends.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from common.config import KafkaSettings
from common.log import get_logger
from common.topics import ALL_TOPICS, Group, Topic
from deploy.exporter.tail_reader import TailReader
from deploy.exporter.tail_window import Window, extended, following, is_worth_reading, lag_records, read_to
from onceloop.errors import Busy
from onceloop.kafka.answers import results
from onceloop.kafka.group_consumer import topic_partitions
from onceloop.kafka.group_requests import GroupRequests
from onceloop.kafka.options import admin_options
from onceloop.records import Partition

REQUEST_SECONDS = 2.0
READS_AS = "exporter"

log = get_logger()


@dataclass(frozen=True, slots=True)
class Cluster:
    """How the brokers are, as far as the pipeline's topics are concerned."""

    brokers: int
    leaderless: int
    under_replicated: int
    answer_seconds: float


@dataclass(frozen=True, slots=True)
class Ends:
    """The offsets of a partition: the first, the stable one, the high watermark."""

    first: int
    stable: int
    high: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands: its offsets; records left per partition; partitions without an offset; members."""

    committed: Mapping[Partition, int]
    lag: Mapping[Partition, int]
    unset: int
    members: int


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw. Partitions go by the names of the table. A group that could not be asked is left out."""

    cluster: Cluster
    ends: Mapping[Partition, Ends]
    groups: Mapping[str, Standing]


class Observer:
    """Looks at the topics of one namespace, again and again; remembers which offsets at their ends are records."""

    def __init__(self, settings: KafkaSettings, topics: Sequence[Topic] = ALL_TOPICS) -> None:
        self._options = {**admin_options(settings.kafka), "client.id": READS_AS, "log_level": 2}
        self._client = AdminClient(self._options)
        self._group_requests = GroupRequests(self._options)
        self._namespace = settings.namespace
        self._topics = {topic.within(settings.namespace): topic for topic in topics}
        self._reader = TailReader(self._options, group_id=Group(READS_AS).within(settings.namespace))
        self._groups = {group: _GroupView(self._options, group, settings.namespace) for group in _readers(topics)}

    def look(self, kept_elsewhere: Mapping[Group, Mapping[Partition, int] | None]) -> Look:
        """Look once; `kept_elsewhere` holds the positions of groups that keep them in tables, None for unknown.

        Partitions in it go by their names on the cluster. Raises Busy if no broker answers.
        """
        try:
            cluster, partitions = self._describe()
            views = [self._groups[group] for group in self._groups if kept_elsewhere.get(group, {}) is not None]
            committed = {view: self._committed(view, partitions, kept_elsewhere.get(view.group)) for view in views}
            ends = self._ends(partitions)
        except KafkaException as error:
            raise Busy(f"broker: {error.args[0].str()}") from error
        standings = {
            view.group.name: self._standing(view, at, ends) for view, at in committed.items() if at is not None
        }
        return Look(
            cluster,
            {self._plain(partition): found for partition, found in ends.items()},
            {name: standing for name, standing in standings.items() if standing is not None},
        )

    def close(self) -> None:
        """Let go of all clients."""
        self._reader.close()
        for view in self._groups.values():
            view.close()

    def _describe(self) -> tuple[Cluster, list[Partition]]:
        began = time.monotonic()
        found = self._client.list_topics(timeout=REQUEST_SECONDS)
        seconds = time.monotonic() - began
        partitions = {
            Partition(name, number): each
            for name in self._topics.keys() & found.topics.keys()
            for number, each in found.topics[name].partitions.items()
        }
        return (
            Cluster(
                brokers=len(found.brokers),
                leaderless=sum(each.leader < 0 for each in partitions.values()),
                under_replicated=sum(len(each.isrs) < len(each.replicas) for each in partitions.values()),
                answer_seconds=seconds,
            ),
            sorted(partition for partition, each in partitions.items() if each.leader >= 0),
        )

    def _committed(
        self, view: "_GroupView", partitions: Sequence[Partition], kept: Mapping[Partition, int] | None
    ) -> Mapping[Partition, int] | None:
        """Return the group's offsets, or None if its coordinator does not answer."""
        read = [partition for partition in partitions if view.group in self._topics[partition.topic].readers]
        try:
            return {**view.committed(read), **(kept or {})}
        except KafkaException as error:
            log.warning("group.unseen", group=view.group.name, error=error.args[0].str())
            return None

    def _ends(self, partitions: Iterable[Partition]) -> dict[Partition, Ends]:
        asked = [TopicPartition(*partition) for partition in partitions]
        if not asked:
            return {}
        committed, uncommitted = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED
        first, latest = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
        # All three are on their way at once; the high watermark comes last, so that it is not below the stable offset.
        answers = [
            self._client.list_offsets(
                dict.fromkeys(asked, spec), isolation_level=level, request_timeout=REQUEST_SECONDS
            )
            for spec, level in ((first, uncommitted), (latest, committed), (latest, uncommitted))
        ]
        firsts, stables, highs = (_offsets(answer) for answer in answers)
        return {
            partition: Ends(firsts[partition], stable, max(stable, highs[partition]))
            for partition, stable in stables.items()
        }

    def _standing(
        self, view: "_GroupView", committed: Mapping[Partition, int], ends: Mapping[Partition, Ends]
    ) -> Standing | None:
        read = {at: each for at, each in ends.items() if view.group in self._topics[at.topic].readers}
        try:
            lag = view.lag(committed, read, self._reader)
            members = view.members(self._group_requests)
        except KafkaException as error:
            log.warning("group.unseen", group=view.group.name, error=error.args[0].str())
            return None
        return Standing(
            committed={self._plain(at): offset for at, offset in committed.items() if at in read},
            lag={self._plain(partition): records for partition, records in lag.items()},
            unset=len(read.keys() - committed.keys()),
            members=members,
        )

    def _plain(self, partition: Partition) -> Partition:
        return Partition(self._topics[partition.topic].name, partition.number)


class _GroupView:
    """One group, and what is known of the ends of what it reads."""

    def __init__(self, options: Mapping[str, Any], group: Group, namespace: str) -> None:
        self.group = group
        self._group_id = group.within(namespace)
        # read_uncommitted: an open transaction of the group must not keep us from seeing what holds meanwhile.
        self._asking = Consumer(
            {**options, "group.id": self._group_id, "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
        )
        self._windows: dict[Partition, Window] = {}

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return the committed offsets of those partitions that have one.

        By a consumer that subscribes to nothing; see `group_offsets` for why not by the admin client.
        """
        if not partitions:
            return {}
        found = self._asking.committed(topic_partitions(partitions), timeout=REQUEST_SECONDS)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return {
            Partition(each.topic, each.partition): read_to(each.offset, each.metadata or "")
            for each in found
            if each.offset >= 0
        }

    def lag(
        self, committed: Mapping[Partition, int], ends: Mapping[Partition, Ends], reader: TailReader
    ) -> dict[Partition, int]:
        """Return the records left per partition: all that there are, where the group has no offset."""
        for partition, found in ends.items():
            at = max(committed.get(partition, 0), found.first)
            self._windows[partition] = following(self._windows.get(partition, Window(at, at)), at)
        spans = {
            partition: (window.end, ends[partition].stable)
            for partition, window in self._windows.items()
            if partition in ends and is_worth_reading(window, ends[partition].stable)
        }
        if spans:
            for partition, tail in reader.read(spans).items():
                self._windows[partition] = extended(self._windows[partition], tail.reached, tail.records)
        return {partition: lag_records(self._windows[partition], found.stable) for partition, found in ends.items()}

    def members(self, requests: GroupRequests) -> int:
        """Return how many members the group has."""
        found = requests.ask(
            lambda client, limit: client.describe_consumer_groups([self._group_id], request_timeout=limit),
            seconds=REQUEST_SECONDS,
            passing=KafkaError.GROUP_ID_NOT_FOUND,
        )
        return len(found[self._group_id].members) if found else 0

    def close(self) -> None:
        self._asking.close()


def _readers(topics: Iterable[Topic]) -> tuple[Group, ...]:
    return tuple(dict.fromkeys(group for topic in topics for group in topic.readers))


def _offsets(answer: Mapping[TopicPartition, Future[Any]]) -> dict[Partition, int]:
    found = results(answer, seconds=REQUEST_SECONDS + 1)
    return {Partition(at.topic, at.partition): each.offset for at, each in found.items()}
