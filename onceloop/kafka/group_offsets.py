"""Read and set what a group has committed, from outside, without joining.

Read by a consumer that subscribes to nothing. The admin client's call for the same, ListConsumerGroupOffsets, takes the
whole process down if it times out before the coordinator is known (librdkafka issue 5040; see GroupRequests).
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException

from onceloop.errors import FatalError, ReportedError
from onceloop.kafka.group_consumer import topic_partitions
from onceloop.kafka.group_requests import GroupRequests
from onceloop.records import CommitPoint, Partition

SET_SECONDS = 10.0
_MEMBERS = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP})
SLICE_SECONDS = 1.0
"""One blocking call: a signal waits so long at most."""


def group_offsets(
    options: Mapping[str, Any], *, group_id: str, partitions: Sequence[Partition], stable: bool, seconds: float
) -> dict[Partition, CommitPoint]:
    """Return offsets and metadata of those partitions for which the group has some.

    `stable`: wait for the end of an open transaction that may change one; otherwise return what held before it.
    Raises KafkaException, `_TIMED_OUT` if within these seconds the broker did not answer or the transaction did not
    end.
    """
    if not partitions:
        return {}
    asking = {
        **options,
        "group.id": group_id,
        "enable.auto.commit": False,
        "isolation.level": "read_committed" if stable else "read_uncommitted",
    }
    deadline = time.monotonic() + seconds
    with closing(Consumer(asking)) as consumer:
        while True:
            try:
                found = consumer.committed(topic_partitions(partitions), timeout=SLICE_SECONDS)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._TIMED_OUT or time.monotonic() > deadline:  # noqa: SLF001 - a public name of librdkafka
                    raise
            else:
                return _points(found)


def set_group_offsets(options: Mapping[str, Any], *, group_id: str, points: Mapping[Partition, CommitPoint]) -> None:
    """Set these offsets with their metadata. Raises ReportedError if the group has live members."""
    request = [ConsumerGroupTopicPartitions(group_id, topic_partitions(points))]
    try:
        answer = GroupRequests(options).ask(
            lambda client, limit: client.alter_consumer_group_offsets(request, request_timeout=limit),
            seconds=SET_SECONDS,
        )[group_id]
        errors = [each.error for each in answer.topic_partitions if each.error]
    except KafkaException as error:
        errors = [error.args[0]]
    if any(error.code() in _MEMBERS for error in errors):
        raise ReportedError(
            f"group {group_id} has live members",
            cure="stop its processes, wait until their sessions have ended (6 s), then run this again",
        )
    if errors:
        raise FatalError(f"offsets of {group_id} cannot be set: {errors[0].str()}", cure="see: pipeline status")


def _points(found: Sequence[Any]) -> dict[Partition, CommitPoint]:
    for each in found:
        if each.error is not None:
            raise KafkaException(each.error)
    return {
        Partition(each.topic, each.partition): CommitPoint(each.offset, each.metadata or "")
        for each in found
        if each.offset >= 0
    }
