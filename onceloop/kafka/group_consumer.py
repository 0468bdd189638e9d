"""A static member of a classic consumer group: take records, know what is owned, go back to a position.

Rebalance callbacks run inside `take` and only note what changed; none raises, seeks or commits. One thread uses a
consumer. `take` may return records of a partition that was revoked in the same call: callers filter by `owned`.
"""

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from operator import methodcaller
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from onceloop import failpoints
from onceloop.errors import Busy, ContractError, FatalError
from onceloop.kafka.coordinator import CoordinatorWatch
from onceloop.kafka.coverage import CoverageWatch
from onceloop.kafka.errors import is_about_credentials
from onceloop.kafka.first_offsets import FirstOffsets, Untouched, store_knows_nothing
from onceloop.kafka.lag import LagGauges
from onceloop.kafka.lost_records import offset_gone
from onceloop.records import CommitPoint, Headers, InputRecord, Partition, rows
from onceloop.runtime import REAL, Runtime
from onceloop.telemetry import SILENT, Observer

POLL_SECONDS = 0.2
GATHER_SECONDS = 0.02
ENDS_SECONDS = 0.5
ENDS_EVERY_SECONDS = 5.0
REQUEST_SECONDS = 2.0
SEEK_SECONDS = 5.0
FENCED = frozenset({KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID})  # noqa: SLF001 - librdkafka's local codes are spelt so
REFUSED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})
OFFSET_LOST = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001 - librdkafka's local codes are spelt so

_CALL_HEADERS = methodcaller("headers")


class GroupConsumer:
    """One consumer. `owned` follows the assignment, `moved` says that it changed since the last `seek`.

    `joined`: the group has given this member its share, which may be empty. `service`: whose group it is, for crash
    points and metrics; the latter name topics without `topic_prefix`. `held`: partitions that are left alone.
    `coverage`: sees partitions that no member of the group reads; then the member rejoins. `untouched`: decides whether
    a partition without an offset is a new one. `gather_seconds`: while records flow, a batch is filled until so long
    after the one before it.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topics: Sequence[str],
        *,
        service: str,
        topic_prefix: str = "",
        coverage: CoverageWatch | None = None,
        untouched: Untouched = store_knows_nothing,
        gather_seconds: float = GATHER_SECONDS,
        runtime: Runtime = REAL,
    ) -> None:
        self.owned: frozenset[Partition] = frozenset()
        self.moved = False
        self.joined = False
        self.fatal: KafkaError | None = None
        self.service = service
        self.held: frozenset[Partition] = frozenset()
        self._pid = os.getpid()
        self._placed = True  # what is owned is the client's assignment, but for what is held
        self._fetching = True
        self._paused: set[Partition] = set()  # the client remembers that of a partition, through assignments too
        self._observer = runtime.observer
        self._clock = runtime.clock
        self._lag = LagGauges(service, topic_prefix=topic_prefix, observer=runtime.observer)
        self._asked_for_ends = 0.0
        self._gather_seconds = gather_seconds
        self._taken_at = -math.inf
        self._coordinator = CoordinatorWatch()
        self._consumer = runtime.consumer(
            {**options, "error_cb": self._on_error, "stats_cb": self._learn}, logger=ClientLog(runtime.observer)
        )
        self._topics = list(topics)
        self._coverage = coverage
        self._first_offsets = FirstOffsets(self._consumer, untouched)
        self._subscribe()

    @property
    def unread(self) -> frozenset[Partition]:
        """Return the partitions that no member of the group reads, as far as this one has seen."""
        return self._coverage.unread if self._coverage else frozenset()

    def take(self, limit: int) -> list[InputRecord]:
        """Return up to `limit` records as soon as there is one, or none after 0.2 s.

        A batch has its price, whatever it holds: so one that comes close behind another waits for company.

        Raises FatalError if this member was fenced, if a partition's committed offset is gone, or if the client has
        lost the group's coordinator; ContractError in a process that was forked since the consumer was built.
        """
        if os.getpid() != self._pid:
            raise ContractError(
                "a Kafka consumer crossed a fork: an inherited one hangs or corrupts",
                cure="build it in the process that uses it",
            )
        if self._coverage and self._coverage.look(self.owned):
            self._rejoin()
        first = self._consumer.poll(POLL_SECONDS)
        if self.held or not self._fetching:
            self._ask_for_ends()
        if self.fatal is not None:
            raise _fenced(self.fatal)
        if self._coordinator.lost:
            raise FatalError(
                f"the group's coordinator is sought at {self._coordinator.lost}, and its broker is elsewhere",
                cure="let it be restarted: this client never asks for the address again, a new one does",
            )
        if first is None:
            return []
        # consume(n, t) waits all of t for n records, so the first one is taken by itself.
        rest = self._consumer.consume(limit - 1, self._company_seconds()) if limit > 1 else []
        self._taken_at = self._clock.monotonic()
        return input_records([message for message in (first, *rest) if self._readable(message)], self._observer)

    def committed(self) -> dict[Partition, CommitPoint]:
        """Return the stable committed offsets of what is owned; waits for pending foreign commits.

        A partition that was added to its topic gets its first offset here. Raises Busy if the group's coordinator does
        not answer, FatalError if a partition has no committed offset and is not new.
        """
        if not self.owned:
            return {}
        asked = [TopicPartition(partition.topic, partition.number) for partition in sorted(self.owned)]
        try:
            found = self._consumer.committed(asked, timeout=REQUEST_SECONDS)
        except KafkaException as error:
            raise Busy(f"committed offsets: {error.args[0].str()}") from error
        for answer in found:
            if answer.error is not None:
                raise Busy(f"committed offset of {answer.topic}[{answer.partition}]: {answer.error.str()}")
        points = {Partition(a.topic, a.partition): CommitPoint(a.offset, a.metadata or "") for a in found}
        if missing := {partition for partition, point in points.items() if point.offset < 0}:
            first = self._first_offsets.of(missing)
            self.commit(first)
            self._observer.log(
                "warning", "partitions.begun", partitions=[str(partition) for partition in sorted(first)]
            )
            points.update(first)
        return points

    def seek(self, positions: Mapping[Partition, int]) -> bool:
        """Go on at these offsets; return False if the assignment changed meanwhile (then ask again).

        After True, `moved` is False until the next change, whatever was prefetched is gone, and these partitions are
        fetched, but for those that are held. The first call after an assignment names every partition that is owned.
        """
        self.moved = False
        fetched = {partition: offset for partition, offset in positions.items() if partition not in self.held}
        if not self._placed:
            self._place(fetched)
        elif not self._seek_all(fetched):
            return False
        self._fetching = True
        if resumed := fetched.keys() & self._paused:
            self._consumer.resume(topic_partitions(resumed))
            self._paused -= resumed
            # A resumed partition waits for the fetcher's next round, half a second; a seek wakes it.
            if not self._seek_all({partition: fetched[partition] for partition in resumed}):
                return False
        self._lag.rewound(self.owned)
        return not self.moved

    def commit(self, offsets: Mapping[Partition, CommitPoint]) -> None:
        """Commit offsets for the group, outside any transaction.

        Raises Busy if the group moved on or the coordinator does not answer: the records come again. Raises FatalError
        if this member was fenced: by a twin in its slot, or because a batch outlasted its membership.
        """
        try:
            self._consumer.commit(offsets=topic_partitions(offsets), asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() in FENCED:
                raise _fenced(error.args[0]) from error
            raise Busy(f"offset commit: {error.args[0].str()}") from error

    def group_metadata(self) -> Any:
        """Return what authorises a transaction to commit offsets for the member as it is now."""
        return self._consumer.consumer_group_metadata()

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Fetch nothing from these partitions from the next `seek` on, which names all that are owned."""
        self.held |= partitions
        self._placed = False

    def report_lag(self, due: Mapping[Partition, int]) -> None:
        """Set the gauges of what lies behind these offsets; the client's statistics go on against the same mapping."""
        self._lag.report(due)

    def pause(self) -> None:
        """Fetch nothing until the next `seek`; `take` still keeps the membership."""
        self._fetching = False
        self._lag.paused()
        if self._placed:
            self._paused |= self.owned
            self._consumer.pause(topic_partitions(self.owned))

    def close(self) -> None:
        """Stop. A static member stays in the group until its session ends, so that a restart moves nothing."""
        if os.getpid() != self._pid:
            return  # it belongs to the parent
        self._consumer.close()
        self._lag.rewound(())

    def _company_seconds(self) -> float:
        """Return how long to wait for more: not at all for a record that comes alone."""
        return max(0.0, self._taken_at + self._gather_seconds - self._clock.monotonic())

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _rejoin(self) -> None:
        """Leave the group and join it again: its leader then divides all partitions that there are."""
        self._observer.log(
            "warning", "partitions.unread", partitions=[str(partition) for partition in sorted(self.unread)]
        )
        self._consumer.unsubscribe()
        self._subscribe()

    def _place(self, positions: Mapping[Partition, int]) -> None:
        """Hand the client its assignment, at these offsets."""
        assert positions.keys() == self.owned - self.held, "an owned partition that is not read"  # noqa: S101 - a broken programmer
        self._consumer.assign(
            [TopicPartition(partition.topic, partition.number, offset) for partition, offset in positions.items()]
        )
        self._placed = True

    def _readable(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() in OFFSET_LOST:
            raise offset_gone(self._consumer, message)
        return _passes(error, message, self._observer)

    def _seek_all(self, positions: Mapping[Partition, int]) -> bool:
        deadline = self._clock.monotonic() + SEEK_SECONDS
        for partition, offset in positions.items():
            while not self._seek(partition, offset):
                # A partition becomes seekable a moment after its assignment; polling would run callbacks on records.
                if self.moved or self._clock.monotonic() > deadline:
                    self.moved = True
                    return False
                self._clock.sleep(0.005)
        return True

    def _seek(self, partition: Partition, offset: int) -> bool:
        try:
            self._consumer.seek(TopicPartition(partition.topic, partition.number, offset))
        except KafkaException as error:
            self._observer.log("debug", "seek.refused", partition=str(partition), error=error.args[0].str())
            return False
        return True

    def _ask_for_ends(self) -> None:
        """Learn where those partitions end that are not fetched: their lag is the one that matters most.

        Now and then, and not for long: the broker may be away as well.
        """
        now = self._clock.monotonic()
        if now - self._asked_for_ends < ENDS_EVERY_SECONDS:
            return
        self._asked_for_ends = now
        ends = {}
        for partition in self.held & self.owned if self._fetching else self.owned:
            try:
                asked = TopicPartition(partition.topic, partition.number)
                ends[partition] = self._consumer.get_watermark_offsets(asked, timeout=ENDS_SECONDS, cached=False)[1]
            except KafkaException as error:
                self._observer.log("debug", "ends.unknown", partition=str(partition), error=error.args[0].str())
                break
        self._lag.learn_ends(ends)

    def _on_assign(self, consumer: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        self.owned = frozenset(Partition(tp.topic, tp.partition) for tp in partitions)
        self.moved = self.joined = True
        if self._coverage:
            self._coverage.start_over()
        failpoints.point(f"{self.service}:assigned")
        # The client gets nothing to fetch before `seek` says where. Without an offset it would ask for the committed
        # one itself, only once, and never serve the partition if the coordinator just moved (librdkafka issue 5586); at
        # any other offset it might fetch before it can be paused, and retention may have cut that offset off.
        self._placed = False
        consumer.assign([])

    def _on_revoke(self, _consumer: confluent_kafka.Consumer, _partitions: list[TopicPartition]) -> None:
        self.owned = frozenset()
        self.moved, self.joined = True, False
        failpoints.point(f"{self.service}:revoked")

    def _learn(self, statistics: str) -> None:
        self._lag.learn(statistics)
        self._coordinator.learn(statistics)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.fatal = error
        elif is_about_credentials(error):
            self._observer.log("warning", "broker.distrusted", error=error.str())


class ClientLog:
    """Hands librdkafka's log lines on to an observer; they arrive inside a poll."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def log(self, _level: int, _format: str, facility: str, _handle: str, text: str) -> None:
        """Take one line, in the shape that confluent-kafka calls a logger with."""
        self._observer.log("debug", "client.logged", facility=facility, text=text)


def generation(group_metadata: bytes) -> int:
    """Return the generation inside librdkafka's serialised group metadata; -1 before the first join.

    Source: `rd_kafka_consumer_group_metadata_write`: the magic `CGMDv2:`, then the generation as a native int32.
    Metadata from before a join fences no member: a transaction that carries it would commit for any zombie.
    """
    return int.from_bytes(group_metadata[7:11], sys.byteorder, signed=True)


def topic_partitions(points: Mapping[Partition, CommitPoint] | Iterable[Partition]) -> list[TopicPartition]:
    """Return the client's form of partitions, with offsets and metadata where there are some."""
    if not isinstance(points, Mapping):
        return [TopicPartition(partition.topic, partition.number) for partition in points]
    return [
        TopicPartition(partition.topic, partition.number, point.offset, point.metadata)
        for partition, point in points.items()
    ]


def input_records(messages: Sequence[Any], observer: Observer = SILENT) -> list[InputRecord]:
    """Return what crosses our border of a client's messages that hold records."""
    return rows(
        InputRecord,
        [_partition(message.topic(), message.partition()) for message in messages],
        [message.offset() for message in messages],
        [message.key() for message in messages],
        [message.value() for message in messages],
        [partial(_headers, message, observer) for message in messages],
    )


def _headers(message: Any, observer: Observer) -> Headers:
    """Return the headers, or none if one has a name that is no text: the client cannot hand that over.

    It then returns a broken list with an exception pending. A plain call would let that surface in a later, innocent
    line; `methodcaller` has the interpreter check the call itself.
    """
    try:
        headers = _CALL_HEADERS(message)
    except SystemError:
        at = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        observer.log("warning", "headers.unreadable", **at)
        return ()
    return tuple(headers) if headers else ()


@cache  # as many as there are partitions; a batch names the same few
def _partition(topic: str, number: int) -> Partition:
    return Partition(topic, number)


def _passes(error: KafkaError, message: Message, observer: Observer) -> bool:
    """Return False for an event that passes by itself; raise FatalError for one that does not."""
    if error.code() in FENCED:  # polled as an event like any other; nothing is fetched after it
        raise _fenced(error)
    if error.fatal() or error.code() in REFUSED:
        raise FatalError(f"the broker refuses this consumer: {error.str()}")
    at = {"topic": message.topic(), "partition": message.partition()}
    observer.log("warning", "consumer.warned", error=error.str(), **at)
    return False


def _fenced(error: KafkaError) -> FatalError:
    return FatalError(f"the group refuses this member: {error.str()}", cure="look for a twin in this slot")
