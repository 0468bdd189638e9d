"""What an operator does to topics and groups from outside, with members away or there."""

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from common.topics import Group, Topic
from onceloop.records import CommitPoint, Partition
from tests.pipeline import Pipeline
from tests.records import wait_for


def set_group(pipeline: Pipeline, group: Group, offsets: Mapping[Partition, int | CommitPoint]) -> None:
    """Set offsets, without metadata unless points are given; the broker takes it once the group's members are gone."""
    client, group_id = _client(pipeline), group.within(pipeline.namespace)
    points = [(at, CommitPoint(o) if isinstance(o, int) else o) for at, o in offsets.items()]
    asked = [TopicPartition(*at, point.offset, point.metadata) for at, point in points]

    def taken() -> bool:
        answer = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group_id, asked)])[group_id]
        return answer.exception() is None and not any(at.error for at in answer.result().topic_partitions)

    wait_for(taken, what="the group's offsets as asked for")


def delete_records(pipeline: Pipeline, topic: Topic, *, below: Mapping[int, int]) -> None:
    """Do to these partitions what retention does: nothing below the offset is left."""
    client, name = _client(pipeline), topic.within(pipeline.namespace)  # the futures are lost with the client
    deleted = client.delete_records([TopicPartition(name, number, at) for number, at in below.items()])
    for each in deleted.values():
        each.result(10)


def recreate(pipeline: Pipeline, topic: Topic) -> None:
    """Delete a topic and create it again, with as many partitions."""
    (created,) = [each for each in pipeline.topics if each.name == topic.name]
    pipeline.admin.delete_topics([created])
    client, name = _client(pipeline), created.within(pipeline.namespace)
    wait_for(lambda: name not in client.list_topics(timeout=10).topics, what="the deletion")
    pipeline.admin.create_topics([created])


def ends(pipeline: Pipeline, *topics: Topic) -> dict[Partition, int]:
    """Return where the partitions of the topics end, as `--to-latest` finds it."""
    return pipeline.admin.stable_ends([each for each in pipeline.topics if each.name in {t.name for t in topics}])


def _client(pipeline: Pipeline) -> AdminClient:
    return AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
