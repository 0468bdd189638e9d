"""Do to groups and topics what an operator does: set offsets, forget them, delete records."""

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from common.topics import Group
from onceloop.errors import ReportedError
from onceloop.records import Partition
from tests.pipeline import Pipeline
from tests.records import wait_for


def committed(pipeline: Pipeline, group: Group) -> dict[Partition, int]:
    """Return where the group stands, once no open transaction may change that."""
    return {at: point.offset for at, point in pipeline.admin.committed(group).items()}


def set_group(pipeline: Pipeline, group: Group, offsets: Mapping[Partition, int]) -> None:
    """Set its offsets; the broker takes them once the group's members are gone."""
    client = AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
    group_id = group.within(pipeline.namespace)

    def taken() -> bool:
        request = ConsumerGroupTopicPartitions(
            group_id, [TopicPartition(*at, offset) for at, offset in offsets.items()]
        )
        answer = client.alter_consumer_group_offsets([request])[group_id]
        return answer.exception() is None and not any(at.error for at in answer.result().topic_partitions)

    wait_for(taken, what="the group's offsets as asked for")


def forget_group(pipeline: Pipeline, group: Group) -> None:
    """Have the broker forget it, once its members are gone."""

    def forgotten() -> bool:
        try:
            pipeline.admin.delete_groups([group])
        except ReportedError:
            return False
        return True

    wait_for(forgotten, what="the end of the group")


def delete_records(pipeline: Pipeline, below: Mapping[Partition, int]) -> None:
    """Delete the records before these offsets, as retention does."""
    client = AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
    for deleted in client.delete_records([TopicPartition(*at, offset) for at, offset in below.items()]).values():
        deleted.result(10)
