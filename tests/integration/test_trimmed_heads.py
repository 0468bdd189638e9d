"""Topics whose heads retention has cut off: nothing below the committed offset is read, so nothing is missed."""

from contextlib import closing

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from common.topics import INVENTORY, ORDERS_CREATED
from onceloop.errors import FatalError
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.options import consumer_options
from onceloop.records import CommitPoint, Partition
from tests.pipeline import Pipeline
from tests.records import wait_for

RECORDS, TRIMMED, COMMITTED = 200, 150, 160
STARTS = 12


@pytest.fixture
def trimmed(pipeline: Pipeline) -> Pipeline:
    """Each partition holds 50 of 200 records, and the group stands at 160."""
    topic = ORDERS_CREATED.within(pipeline.namespace)
    producer = Producer({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    for number in range(ORDERS_CREATED.partitions):
        for n in range(RECORDS):
            producer.produce(topic, str(n), partition=number)
    assert producer.flush(20) == 0
    partitions = [Partition(topic, number) for number in range(ORDERS_CREATED.partitions)]
    with closing(joined(pipeline)) as member:
        member.seek(dict.fromkeys(partitions, 0))
        member.commit({partition: CommitPoint(COMMITTED) for partition in partitions})
    trim(pipeline, topic, below=TRIMMED)
    return pipeline


def trim(pipeline: Pipeline, topic: str, *, below: int) -> None:
    """Delete the records below this offset, as retention does."""
    admin = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    spots = [TopicPartition(topic, number, below) for number in range(ORDERS_CREATED.partitions)]
    for deleted in admin.delete_records(spots).values():
        deleted.result(10)


def joined(pipeline: Pipeline) -> GroupConsumer:
    """Return a member of the group that owns all partitions."""
    options = consumer_options(pipeline.kafka, group=INVENTORY, slot=0)
    member = GroupConsumer(options, [ORDERS_CREATED.within(pipeline.namespace)])
    wait_for(lambda: not member.take(1) and member.joined, what="the share")
    return member


def read_to_the_end(member: GroupConsumer) -> dict[Partition, list[int]]:
    """Return the offsets that the member is given, from the committed ones on."""
    found: dict[Partition, list[int]] = {partition: [] for partition in member.owned}
    assert member.seek({partition: point.offset for partition, point in member.committed().items()})

    def ended() -> bool:
        for record in member.take(500):
            found[record.partition].append(record.offset)
        return all(offsets and offsets[-1] == RECORDS - 1 for offsets in found.values())

    wait_for(ended, what="the ends of all partitions")
    return found


def test_start_on_topics_with_trimmed_heads_reads_on_from_the_committed_offset(trimmed: Pipeline) -> None:
    """Fault: the head of each partition is gone, and nothing that the group needs. Must hold: every start reads on."""
    for _ in range(STARTS):
        with closing(joined(trimmed)) as member:
            found = read_to_the_end(member)
        assert all(offsets == list(range(COMMITTED, RECORDS)) for offsets in found.values())


def test_rewind_after_a_rebalance_reads_nothing_below_the_committed_offset(trimmed: Pipeline) -> None:
    """Fault: another member comes and goes, so that partitions are taken over while their heads are gone."""
    options = consumer_options(trimmed.kafka, group=INVENTORY, slot=1)
    with closing(joined(trimmed)) as member:
        read_to_the_end(member)
        for _ in range(2):
            with closing(GroupConsumer(options, [ORDERS_CREATED.within(trimmed.namespace)])) as other:

                def shared(other: GroupConsumer = other) -> bool:
                    for each in (member, other):
                        each.take(1)
                        if each.moved and each.joined:
                            each.seek({partition: point.offset for partition, point in each.committed().items()})
                    return len(other.owned) == len(member.owned) == ORDERS_CREATED.partitions // 2

                wait_for(shared, what="the share of both")
                read_to_the_end(other)


def test_committed_offset_that_retention_cut_off_is_named(trimmed: Pipeline) -> None:
    trim(trimmed, ORDERS_CREATED.within(trimmed.namespace), below=COMMITTED + 10)
    with closing(joined(trimmed)) as member, pytest.raises(FatalError, match="the committed offset is gone"):
        read_to_the_end(member)
