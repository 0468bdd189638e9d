"""librdkafka's consumer in a classic group, as far as the product uses it.

Rebalance callbacks run inside `poll` and `consume` alone; a call may return records of a partition that is revoked
before it ends. Reading goes on behind what was returned, whatever became of it: only `seek` goes back. A partition is
seekable a moment after it was assigned. Offsets without a record are passed over in silence.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from chaos.model.broker import Entry, Refused
from chaos.model.client_errors import fenced_instance, timed_out, wrong_state
from chaos.model.client_producer import serialised
from chaos.model.cluster import Cluster
from chaos.model.group import Membership
from onceloop.records import Headers, Partition

POLL_SECONDS = 0.2
HEARTBEAT_LATE = 0.5
"""How likely a poll does not know yet what the next heartbeat will learn."""
FETCH_ENDS = 0.2
BROKEN_READ = 0.3
"""How likely rough weather breaks a read of committed offsets or refuses a seek, relative to other requests."""

Callback = Callable[[Any, list[TopicPartition]], None]


class Fetched:
    """Stands for `confluent_kafka.Message`."""

    def __init__(self, partition: Partition, offset: int, entry: Entry) -> None:
        self._partition, self._offset, self._entry = partition, offset, entry

    def topic(self) -> str:
        """Return the topic's name."""
        return self._partition.topic

    def partition(self) -> int:
        """Return the partition's number."""
        return self._partition.number

    def offset(self) -> int:
        """Return the record's own offset."""
        return self._offset

    def key(self) -> bytes | None:
        """Return the key's bytes."""
        return self._entry.key

    def value(self) -> bytes | None:
        """Return the value's bytes."""
        return self._entry.value

    def headers(self) -> Headers:
        """Return the headers."""
        return self._entry.headers

    def error(self) -> KafkaError | None:
        """Return None: this is a record."""
        return None


class ModelConsumer:
    """Stands for `confluent_kafka.Consumer`. `idle`: empty polls since something last happened."""

    def __init__(self, cluster: Cluster, options: Mapping[str, Any]) -> None:
        self.idle = 0
        self._cluster = cluster
        self._instance = str(options["group.instance.id"])
        self._on_error: Callable[[KafkaError], None] = options["error_cb"]
        self._on_assign: Callback
        self._on_revoke: Callback
        self._member = ""
        self._generation = -1
        self._assigned: list[Partition] | None = None
        self._positions: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._unseekable: set[Partition] = set()

    def subscribe(self, _topics: Sequence[str], *, on_assign: Callback, on_revoke: Callback, on_lost: Callback) -> None:
        """Remember the callbacks; the group is joined by polling."""
        self._on_assign, self._on_revoke = on_assign, on_revoke
        assert on_lost == on_revoke  # noqa: S101 - the product treats both alike, and so may the model

    def poll(self, _timeout: float) -> Fetched | None:
        """Serve the group, then return the next record; none after the time-out."""
        scheduler = self._cluster.scheduler
        scheduler.step("poll")
        if not self._serve():
            found = self._next()
            if found is not None:
                self.idle = 0
                return found
            self.idle += 1
        scheduler.wait("nothing polled", POLL_SECONDS)
        return None

    def consume(self, limit: int, _timeout: float) -> list[Fetched]:
        """Return what is there without waiting; the group may take a partition away in the middle of it."""
        random = self._cluster.scheduler.random
        found: list[Fetched] = []
        while len(found) < limit and random.random() >= FETCH_ENDS:
            following = self._next()
            if following is None:
                break
            found.append(following)
        if random.random() < FETCH_ENDS:
            self._serve()
        self._cluster.scheduler.step(f"took {1 + len(found)}")
        return found

    def committed(self, asked: Iterable[TopicPartition], timeout: float) -> list[TopicPartition]:  # noqa: ARG002 - the client's signature
        """Return stable committed offsets; time out while a transaction holds one pending (KIP-447)."""
        scheduler = self._cluster.scheduler
        scheduler.step("committed asked")
        group = self._cluster.group
        found = [Partition(one.topic, one.partition) for one in asked]
        if self._rough() or not all(group.is_stable(partition) for partition in found):
            scheduler.now += 2.0
            scheduler.step("committed timed out")
            raise timed_out("OffsetFetch")
        answer = [TopicPartition(one.topic, one.number, group.committed[one]) for one in found]
        scheduler.step("committed answered")
        return answer

    def seek(self, position: TopicPartition) -> None:
        """Go on at this offset; what was fetched ahead is gone."""
        self._cluster.scheduler.step("seek")
        partition = Partition(position.topic, position.partition)
        if partition in self._unseekable or partition not in self._positions:
            self._unseekable.discard(partition)
            raise wrong_state("seek")
        self._positions[partition] = position.offset

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch these partitions from these offsets on, and no other; some cannot be sought at once."""
        self._cluster.scheduler.step("assign")
        self._positions = {Partition(one.topic, one.partition): one.offset for one in partitions}
        self._unseekable = {partition for partition in self._positions if self._rough()}

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch nothing from these."""
        self._paused |= {Partition(one.topic, one.partition) for one in partitions}

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch again from these."""
        self._paused -= {Partition(one.topic, one.partition) for one in partitions}

    def consumer_group_metadata(self) -> bytes:
        """Return who this is, as a transaction will say it."""
        return serialised(self._membership())

    def commit(self, *, offsets: Iterable[TopicPartition], asynchronous: bool) -> None:
        """Commit outside any transaction. The loop does not; planted defects do."""
        assert not asynchronous  # noqa: S101 - the product never does
        points = {Partition(one.topic, one.partition): one.offset for one in offsets}
        self._cluster.scheduler.step("OffsetCommit sent")
        try:
            self._cluster.group.commit(self._membership(), points)
        except Refused as refused:
            raise KafkaException(KafkaError(refused.code)) from refused

    def get_watermark_offsets(
        self,
        partition: TopicPartition,
        *,
        timeout: float,  # noqa: ARG002 - the client's signature
        cached: bool,  # noqa: ARG002 - the same
    ) -> tuple[int, int]:
        """Return the partition's first and next offset."""
        return 0, len(self._cluster.entries(Partition(partition.topic, partition.partition)))

    def close(self) -> None:
        """Stop; a static member stays in the group until its session ends."""
        self._cluster.scheduler.step("consumer closed")

    def _membership(self) -> Membership:
        return Membership(self._generation, self._member, self._instance if self._member else "")

    def _rough(self) -> bool:
        return self._cluster.scheduler.random.random() < BROKEN_READ * self._cluster.network.rough

    def _serve(self) -> bool:
        """Do what the group asks for, callbacks included; return True if this member's share changed."""
        group = self._cluster.group
        if self._member:
            try:
                group.heartbeat(self._instance, self._member)
            except Refused as refused:
                return self._leave(refused)
        if not self._member:
            self._member = group.join(self._instance, "")
        if self._assigned is not None:
            if self._generation == group.generation and not group.rebalancing:
                return False
            if self._cluster.scheduler.random.random() < HEARTBEAT_LATE:
                return False
            self._revoke()
            return True
        return self._await_share()

    def _leave(self, refused: Refused) -> bool:
        """Learn that the session is over (join again) or that another process took the slot (the end)."""
        if refused.code == KafkaError.FENCED_INSTANCE_ID:
            self._on_error(fenced_instance())
            return True
        self._member = ""
        if self._assigned is not None:
            self._revoke()
        return True

    def _await_share(self) -> bool:
        group = self._cluster.group
        if group.rebalancing and not group.has_joined(self._instance):
            group.join(self._instance, self._member)
        share = group.share(self._instance)
        if share is None:
            return True
        self._generation = group.generation
        self._assigned = list(share)
        self._paused.clear()
        self.idle = 0
        self._on_assign(self, _client_form(share))
        return True

    def _revoke(self) -> None:
        lost, self._assigned = self._assigned or [], None
        self._positions.clear()
        self.idle = 0
        self._on_revoke(self, _client_form(lost))

    def _next(self) -> Fetched | None:
        """Return the next record of some partition that is not paused, and go on behind it."""
        waiting = [
            partition
            for partition, offset in self._positions.items()
            if partition not in self._paused and offset < len(self._cluster.entries(partition))
        ]
        if not waiting:
            return None
        partition = self._cluster.scheduler.random.choice(waiting)
        offset = self._positions[partition]
        self._positions[partition] = offset + 1
        entry = self._cluster.entries(partition)[offset]
        return self._next() if entry is None else Fetched(partition, offset, entry)


def _client_form(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(partition.topic, partition.number) for partition in partitions]
