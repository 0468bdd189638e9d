"""What repairing a group's offsets asks of the cluster: partitions as they are, ends, the group, and one change."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from common.config import KafkaSettings
from common.kafka.admin_calls import SETTLING, forget_former_leaders
from onceloop.errors import FatalError, ReportedError
from onceloop.kafka.answers import results
from onceloop.kafka.group_offsets import group_offsets
from onceloop.kafka.group_requests import GroupRequests
from onceloop.kafka.options import admin_options
from onceloop.records import Partition

CALL_SECONDS = 10.0
PENDING_SECONDS = 20.0
"""A killed worker's transaction lasts 10 s, and up to 10 s more until the broker looks."""
LEAVE_SECONDS = 10.0
OFFSETS_TOPIC = "__consumer_offsets"

_POLL_SECONDS = 0.5
_MEMBERS = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP})

T = TypeVar("T")


class Ends(NamedTuple):
    """Where a partition begins, and where it ends for a reader of committed records."""

    first: int
    stable: int


class Cluster:
    """One cluster. Its methods raise FatalError if the broker does not answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.options = {**admin_options(settings.kafka), "log_level": 2}  # what fails is raised, once
        self._client = AdminClient(self.options)
        self._groups = GroupRequests(self.options)
        self._bootstrap = settings.kafka_bootstrap

    def partitions(self, names: Iterable[str]) -> list[Partition]:
        """Return the partitions that these topics have now. Raises ReportedError if there is no such topic."""
        found = self._call(lambda: self._client.list_topics(timeout=CALL_SECONDS).topics)
        for name in names:
            if name not in found:
                raise ReportedError(f"there is no topic {name}", cure="run `pipeline provision`")
        return sorted(Partition(name, number) for name in names for number in found[name].partitions)

    def settled_ends(self, partitions: Sequence[Partition]) -> dict[Partition, Ends]:
        """Return the ends once no transaction is open there, which could hide events behind it.

        Raises ReportedError if one still is after 20 s.
        """
        deadline = time.monotonic() + PENDING_SECONDS
        while True:
            stable = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)  # type: ignore[no-untyped-call]
            high = self._offsets(partitions, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]
            open_ones = [at for at in partitions if high[at] > stable[at]]
            if not open_ones:
                break
            if time.monotonic() > deadline:
                names = ", ".join(f"{at.topic}[{at.number}]" for at in open_ones)
                raise ReportedError(
                    f"a transaction is open on {names}: what stands behind it is unknown",
                    cure="end it, then run this again: docs/runbook.md, readers stand still",
                )
            time.sleep(_POLL_SECONDS)
        first = self._offsets(partitions, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]
        return {at: Ends(first[at], stable[at]) for at in partitions}

    def await_empty(self, group_id: str) -> None:
        """Return once the group has no members. Raises ReportedError if it still has some after ten seconds.

        A static member counts until its session ends (6 s), however it was stopped.
        """
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._members(group_id):
            if time.monotonic() > deadline:
                raise has_members(group_id)
            time.sleep(_POLL_SECONDS)

    def committed(self, group_id: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Return where the group stands; an open transaction that may change it is looked past."""
        found = self._call(
            lambda: group_offsets(
                self.options, group_id=group_id, partitions=partitions, stable=False, seconds=CALL_SECONDS
            )
        )
        return {at: point.offset for at, point in found.items()}

    def pending(self, group_id: str, partitions: Sequence[Partition]) -> bool:
        """Return True if an open transaction still holds offsets of the group after 20 s."""
        try:
            group_offsets(self.options, group_id=group_id, partitions=partitions, stable=True, seconds=PENDING_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001 - a public name of librdkafka
                raise self._refused(error) from error
            self.committed(group_id, partitions)  # raises if it is the broker that does not answer
            return True
        return False

    def kept_on(self, group_id: str) -> Partition:
        """Return the partition that keeps the group's offsets."""
        return Partition(OFFSETS_TOPIC, keeper(group_id, len(self.partitions([OFFSETS_TOPIC]))))

    def set_offsets(self, group_id: str, offsets: Mapping[Partition, int]) -> None:
        """Set them, all or none. Raises ReportedError if the group has members: the broker accepts none then."""
        request = [
            ConsumerGroupTopicPartitions(group_id, [TopicPartition(*at, offset) for at, offset in offsets.items()])
        ]
        try:
            answer = self._ask_coordinator(
                lambda client, limit: client.alter_consumer_group_offsets(request, request_timeout=limit)
            )[group_id]
        except _RefusedError as error:
            if error.code in _MEMBERS:
                raise has_members(group_id) from error
            raise
        refused = [at for at in answer.topic_partitions if at.error is not None]
        if any(at.error.code() in _MEMBERS for at in refused):
            raise has_members(group_id)
        if refused:
            raise ReportedError(f"the broker refuses offsets of {group_id}: {refused[0].error.str()}")

    def _members(self, group_id: str) -> int:
        found = self._ask_coordinator(
            lambda client, limit: client.describe_consumer_groups([group_id], request_timeout=limit),
            passing=KafkaError.GROUP_ID_NOT_FOUND,
        )
        return len(found[group_id].members) if found else 0

    def _offsets(
        self, partitions: Sequence[Partition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[Partition, int]:
        asked = {TopicPartition(*at): spec for at in partitions}
        found = self._call(
            lambda: results(self._client.list_offsets(asked, isolation_level=isolation), seconds=CALL_SECONDS)
        )
        return {Partition(at.topic, at.partition): result.offset for at, result in found.items()}

    def _ask_coordinator(
        self, request: Callable[[AdminClient, float], Mapping[Any, Future[T]]], *, passing: int | None = None
    ) -> dict[Any, T]:
        return self._call(lambda: self._groups.ask(request, seconds=CALL_SECONDS, passing=passing))

    def _call(self, ask: Callable[[], T]) -> T:
        """Ask again for ten seconds while the cluster settles on a leader or a coordinator."""
        deadline = time.monotonic() + CALL_SECONDS
        while True:
            try:
                return ask()
            except KafkaException as error:
                if error.args[0].code() not in SETTLING or time.monotonic() > deadline:
                    raise self._refused(error) from error
                forget_former_leaders(self._client, error)
            time.sleep(_POLL_SECONDS)

    def _refused(self, error: KafkaException) -> ReportedError:
        return _RefusedError(error.args[0], self._bootstrap)


class _RefusedError(FatalError):
    """The broker does not answer, or says no; `code` is librdkafka's."""

    def __init__(self, error: KafkaError, bootstrap: str) -> None:
        super().__init__(
            f"the broker at {bootstrap} does not do as asked: {error.str()}",
            cure="is it up? see `pipeline status`, or correct PIPELINE_KAFKA_BOOTSTRAP",
        )
        self.code = error.code()


def has_members(group_id: str) -> ReportedError:
    """Return the refusal of a change beside live workers."""
    return ReportedError(
        f"group {group_id} has live members",
        cure="stop all of its workers, wait until their sessions have ended (6 s), then run this again",
    )


def keeper(group_id: str, count: int) -> int:
    """Return which of so many partitions keeps the group's offsets.

    Source: Kafka's `Utils.abs(groupId.hashCode()) % count`, where the least number of all counts as 0.
    """
    hashed = 0
    for character in group_id:
        hashed = (31 * hashed + ord(character)) & 0xFFFFFFFF
    signed = hashed - (1 << 32) if hashed >> 31 else hashed
    return 0 if signed == -(1 << 31) else abs(signed) % count
