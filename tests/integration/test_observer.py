"""Lag and stalls from outside, on a real broker: what is a record, what only takes an offset, what hangs."""

from collections.abc import Iterator
from contextlib import closing

import confluent_kafka
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from common.topics import INVENTORY, INVENTORY_RESERVED, NOTIFICATION, ORDER_STATUS, ORDERS_CREATED, Topic
from deploy.exporter.observer import Look, Observer
from deploy.exporter.tail_reader import TailReader
from deploy.exporter.tail_window import UNREAD_MAX
from onceloop.records import Partition
from tests.pipeline import Pipeline
from tests.records import transactional_producer, wait_for, write

AT = Partition(INVENTORY_RESERVED.name, 0)


@pytest.fixture
def observer(pipeline: Pipeline) -> Iterator[Observer]:
    with closing(Observer(pipeline.kafka, pipeline.topics)) as observer:
        yield observer


def write_in_transaction(pipeline: Pipeline, producer: confluent_kafka.Producer, records: int) -> None:
    producer.begin_transaction()
    for number in range(records):
        producer.produce(INVENTORY_RESERVED.within(pipeline.namespace), str(number), partition=AT.number)
    producer.flush(20)


def commit_offset(pipeline: Pipeline, topic: Topic, offset: int) -> None:
    """Put the group notification there, as its worker would."""
    client = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    at = TopicPartition(topic.within(pipeline.namespace), AT.number, offset)
    asked = [ConsumerGroupTopicPartitions(NOTIFICATION.within(pipeline.namespace), [at])]
    for future in client.alter_consumer_group_offsets(asked).values():
        future.result(20)


def lag(look: Look) -> int:
    return look.groups[NOTIFICATION.name].lag[AT]


def test_lag_counts_records__no_markers_no_aborted_ones_none_of_an_open_transaction(
    pipeline: Pipeline, observer: Observer
) -> None:
    producer = transactional_producer(pipeline)
    for records in (3, 2):
        write_in_transaction(pipeline, producer, records)
        producer.commit_transaction(20)
    write_in_transaction(pipeline, producer, 4)
    producer.abort_transaction(20)
    look = observer.look({})
    assert look.ends[AT].stable == 12, "five records, four that were aborted, three markers"
    assert lag(look) == 5
    for offset, left in ((2, 3), (3, 2), (4, 2), (5, 1)):  # 3 is a marker's
        commit_offset(pipeline, INVENTORY_RESERVED, offset)
        assert lag(observer.look({})) == left
    commit_offset(pipeline, INVENTORY_RESERVED, 6)
    assert lag(observer.look({})) == 0, "nothing but a marker and an aborted transaction lies behind the last record"
    commit_offset(pipeline, INVENTORY_RESERVED, 1)
    assert lag(observer.look({})) == 4, "a group that is set back has them before it again"

    write_in_transaction(pipeline, producer, 3)
    look = observer.look({})
    assert (look.ends[AT].stable, look.ends[AT].high) == (12, 15)
    assert lag(look) == 4, "what an open transaction holds is nothing that a reader could do"
    producer.commit_transaction(20)
    look = observer.look({})
    assert (look.ends[AT].stable, look.ends[AT].high, lag(look)) == (16, 16, 7)


def test_group_is_seen_without_members_and_without_offsets(pipeline: Pipeline, observer: Observer) -> None:
    write(pipeline, ORDERS_CREATED, [(b"%d" % number, b"order") for number in range(500)])
    look = observer.look({ORDER_STATUS: None})
    assert sum(look.groups[INVENTORY.name].lag.values()) == 500
    assert (look.groups[INVENTORY.name].members, look.groups[INVENTORY.name].unset) == (0, 0)
    assert ORDER_STATUS.name not in look.groups, "where it stands is unknown"
    assert (look.cluster.brokers, look.cluster.leaderless, look.cluster.under_replicated) == (1, 0, 0)

    first = Partition(ORDERS_CREATED.name, 0)
    written = look.ends[first].stable
    look = observer.look({ORDER_STATUS: {first._replace(topic=ORDERS_CREATED.within(pipeline.namespace)): 5}})
    assert look.groups[ORDER_STATUS.name].lag[first] == written - 5, "a table says where it stands"

    pipeline.admin.delete_groups([INVENTORY])
    wait_for(lambda: observer.look({}).groups[INVENTORY.name].unset == ORDERS_CREATED.partitions, what="no offset")
    assert sum(observer.look({}).groups[INVENTORY.name].lag.values()) == 500


def test_long_tail_is_reported_by_its_offsets_unread(
    pipeline: Pipeline, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TailReader, "read", lambda *_: pytest.fail("it is read"))
    write(pipeline, ORDERS_CREATED, [(None, b"1")] * (UNREAD_MAX + 1), partition=0)
    assert observer.look({}).groups[INVENTORY.name].lag[Partition(ORDERS_CREATED.name, 0)] == UNREAD_MAX + 1
