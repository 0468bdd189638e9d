"""Partitions that are added to a topic while it is written and read: they are read, from their beginning."""

import time
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # without __all__

from chaos.load.partitions import home_of
from common.topics import (
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    KEYED_BY_USER,
    METRICS_PARTIALS,
    ORDERS_CREATED,
)
from deploy.provision import growth
from onceloop.errors import ExitCode, ReportedError
from onceloop.kafka.acked_producer import AckedProducer
from onceloop.records import OutputRecord
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write_orders

FEW, MORE = 2, 5
ORDERS = 60


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=FEW)
    pipeline.set_stock({"tea": 10_000})
    return pipeline


def start_workers(pipeline: Pipeline) -> list[Process]:
    """Start one of each reader, and two of those that reserve."""
    started = [
        pipeline.start("inventory_service", role="inventory_rw"),
        pipeline.start("inventory_service", role="inventory_rw", slot=1),
        pipeline.start("notification_service", role="notification_rw"),
        pipeline.start("order_service", "projection", role="order_rw"),
        pipeline.start("metrics_service", "windows", role="reader"),
    ]
    return [worker.wait_ready() for worker in started]


def place(pipeline: Pipeline, *, partition: int) -> set[tuple[int, int]]:
    """Write orders to one partition; return where they stand."""
    before = ends(pipeline).get(partition, 0)
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)], partition=partition)
    return {(partition, before + n) for n in range(ORDERS)}


def ends(pipeline: Pipeline) -> dict[int, int]:
    return {partition.number: end for partition, end in pipeline.admin.stable_ends([ORDERS_CREATED]).items()}


def answered(pipeline: Pipeline) -> Counter[tuple[int, int]]:
    """Return where the orders stand that have an outcome, and how many."""
    return Counter(
        (int(seen.headers["origin_partition"]), int(seen.headers["origin_offset"]))
        for seen in read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED)
    )


def projected(pipeline: Pipeline) -> int:
    """Return how many orders the status table knows as decided and notified."""
    with pipeline.connect("checker") as connection:
        known = "SELECT count(*) FROM orders.order_status WHERE status <> 'pending' AND notified_at IS NOT NULL"
        return int(connection.execute(sa.text(known)).scalar_one())


def add_by_other_means(pipeline: Pipeline) -> None:
    """Add partitions to the input topic alone, as an operator's tool does."""
    client = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    name = ORDERS_CREATED.within(pipeline.namespace)
    client.create_partitions([NewPartitions(name, MORE)])[name].result(10)
    wait_for(lambda: pipeline.admin.partitions([ORDERS_CREATED])[ORDERS_CREATED] == MORE, what="the new partitions")


def test_added_partitions_are_taken_up_by_everyone_while_orders_come(pipeline: Pipeline) -> None:
    """Must hold: no process ends; each order has one outcome, a status, a notification, wherever it stands."""
    workers = start_workers(pipeline)
    placed = place(pipeline, partition=0)
    said: list[str] = []
    growth.grow(pipeline.admin, ORDERS_CREATED, MORE, said.append)
    for partition in range(MORE):
        placed |= place(pipeline, partition=partition)
    wait_for(lambda: answered(pipeline).keys() >= placed, what="the outcomes")
    wait_for(lambda: projected(pipeline) == len(placed), what="the statuses")
    assert set(answered(pipeline).values()) == {1}
    assert [worker.exit_code for worker in workers] == [None] * len(workers)
    assert set(pipeline.admin.partitions(KEYED_BY_USER).values()) == {MORE}
    for group in dict.fromkeys(group for topic in KEYED_BY_USER for group in topic.readers):
        read_by = [topic for topic in KEYED_BY_USER if group in topic.readers]
        assert len(pipeline.admin.committed(group)) >= MORE * len(read_by)
    assert said[-1].endswith("every partition is read")
    for worker in workers:
        worker.wait_ready()


def test_partitions_that_an_operator_added_are_found_by_restarted_workers(pipeline: Pipeline) -> None:
    """Fault: partitions are added by other means while no worker lives; static members start again into their old
    shares. Must hold: orders there are answered without provisioning; until then no worker is ready.
    """
    workers = [start_inventory(pipeline, slot) for slot in (0, 1)]
    placed = place(pipeline, partition=0)
    wait_for(lambda: answered(pipeline).keys() >= placed, what="the outcomes")
    for worker in workers:
        worker.kill()
    add_by_other_means(pipeline)
    placed |= place(pipeline, partition=MORE - 1)
    workers = [start_inventory(pipeline, slot) for slot in (0, 1)]
    wait_for(lambda: answered(pipeline).keys() >= placed, what="the outcomes on a partition that was added")
    assert set(answered(pipeline).values()) == {1}
    assert any("partitions.unread" in worker.output() for worker in workers)
    for worker in workers:
        worker.wait_ready()
    assert growth.bring_in_step(pipeline.admin) == ("notification.sent", "inventory.failed", "inventory.reserved")


def test_partition_without_offset_is_not_read_from_its_beginning_again_where_work_was_done(pipeline: Pipeline) -> None:
    """Fault: the group's offset on one partition is gone. Must hold: nothing there is decided a second time."""
    worker = start_inventory(pipeline, 0)
    placed = place(pipeline, partition=1)
    wait_for(lambda: answered(pipeline).keys() >= placed, what="the outcomes")
    assert worker.stop() == 0
    forget_offset(pipeline, partition=1)
    again = pipeline.start("inventory_service", role="inventory_rw")
    assert again.wait(timeout_seconds=30) == ExitCode.UNAVAILABLE, again.output()
    assert "no committed offset in this group, but work was done there" in again.output().splitlines()[-1]
    assert answered(pipeline).keys() == placed


def test_added_partition_whose_beginning_retention_deleted_is_named(pipeline: Pipeline) -> None:
    add_by_other_means(pipeline)
    place(pipeline, partition=MORE - 1)
    trim(pipeline, partition=MORE - 1, below=7)
    worker = pipeline.start("inventory_service", role="inventory_rw")
    assert worker.wait(timeout_seconds=30) == ExitCode.UNAVAILABLE, worker.output()
    assert f"retention deleted 7 records of {ORDERS_CREATED.within(pipeline.namespace)}[{MORE - 1}]" in worker.output()


def test_records_of_one_key_change_partitions_once_and_within_the_time_that_is_named(pipeline: Pipeline) -> None:
    """A user's order holds before and after: a producer never goes back, and has learnt of the growth in time."""
    producer = AckedProducer(pipeline.kafka, client_id="grower")
    keys = [f"u{n}".encode() for n in range(12)]
    topic = ORDERS_CREATED.within(pipeline.namespace)

    def send() -> None:
        producer.send([OutputRecord(topic, key, b"value") for key in keys])

    send()
    pipeline.admin.add_partitions({ORDERS_CREATED: MORE})
    deadline = time.monotonic() + growth.PRODUCERS_SECONDS
    while time.monotonic() < deadline:
        send()
        time.sleep(0.5)
    since = ends(pipeline)
    send()
    producer.close()
    for seen in read(pipeline, ORDERS_CREATED):
        assert seen.key is not None
        homes = {home_of(seen.key, FEW), home_of(seen.key, MORE)}
        assert seen.partition in homes
        if seen.offset >= since[seen.partition]:
            assert seen.partition == home_of(seen.key, MORE)


@pytest.mark.parametrize(
    ("name", "partitions", "complaint"),
    [
        ("orders.created", 1, "there are 2 partitions; Kafka takes none away"),
        ("orders.created", 1_000_000, "there are 2 partitions"),
        (METRICS_PARTIALS.name, 3, "one partition by design"),
        ("orders", 3, "no topic is called orders"),
    ],
)
def test_growth_that_cannot_be_is_refused(pipeline: Pipeline, name: str, partitions: int, complaint: str) -> None:
    with pytest.raises(ReportedError, match=complaint):
        growth.grow(pipeline.admin, growth.named(name), partitions, print)


def test_growing_twice_is_a_no_op(pipeline: Pipeline) -> None:
    growth.grow(pipeline.admin, ORDERS_CREATED, MORE, lambda _: None)
    said: list[str] = []
    growth.grow(pipeline.admin, ORDERS_CREATED, MORE, said.append)
    assert not any("partitions" in line and "first" in line for line in said)
    assert all(point.offset == 0 for point in pipeline.admin.committed(INVENTORY).values())


def start_inventory(pipeline: Pipeline, slot: int) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw", slot=slot).wait_ready(timeout_seconds=40)


def forget_offset(pipeline: Pipeline, *, partition: int) -> None:
    """Give the other partitions their offsets again after the group was deleted, as a broker that forgot one."""
    kept = {at: point for at, point in pipeline.admin.committed(INVENTORY).items() if at.number != partition}
    wait_for(lambda: _deleted(pipeline), what="the group's end")
    client = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    group = INVENTORY.within(pipeline.namespace)
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(*at, point.offset) for at, point in kept.items()])
    client.alter_consumer_group_offsets([request])[group].result(10)


def _deleted(pipeline: Pipeline) -> bool:
    """Delete the group, once its static member's session is over."""
    try:
        pipeline.admin.delete_groups([INVENTORY])
    except ReportedError:
        return False
    return True


def trim(pipeline: Pipeline, *, partition: int, below: int) -> None:
    client = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    spot = TopicPartition(ORDERS_CREATED.within(pipeline.namespace), partition, below)
    client.delete_records([spot])[spot].result(10)
