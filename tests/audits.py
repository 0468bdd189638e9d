"""Audit a test's pipeline, do to it what operators do, and plant faults in what it left behind."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import confluent_kafka
import sqlalchemy as sa
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from audit.config import CheckerSettings
from audit.rules.judge import Judgement
from audit.whole import audit
from common.events.orders import OrderCreated
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, Group, Topic
from tests.pipeline import Pipeline
from tests.records import Seen, read, wait_for, write_orders

OUTCOMES = (INVENTORY_RESERVED, INVENTORY_FAILED)


def settings_of(pipeline: Pipeline, **changes: str) -> CheckerSettings:
    at = pipeline.postgres("checker")
    return CheckerSettings(
        namespace=pipeline.namespace,
        kafka_bootstrap=changes.get("kafka_bootstrap", pipeline.kafka.kafka_bootstrap),
        registry_url=changes.get("registry_url", pipeline.kafka.registry_url),
        postgres_url=changes.get("postgres_url", at.postgres_url),
        postgres_password=at.postgres_password,
    )


def verdict(pipeline: Pipeline, *, wait_seconds: float = 10, restocked: bool = True) -> Judgement:
    """Judge a pipeline that has an inventory alone."""
    return audit(settings_of(pipeline), wait_seconds=wait_seconds, followers=False, restocked=restocked)


def broken(judgement: Judgement) -> dict[str, list[str]]:
    return {r.invariant: [violation.what for violation in r.examples] for r in judgement.rulings if r.broken}


@contextmanager
def inventory(pipeline: Pipeline) -> Iterator[None]:
    worker = pipeline.start("inventory_service", role="inventory_rw").wait_ready()
    yield
    assert worker.stop() == 0, worker.output()


def process(pipeline: Pipeline, orders: Sequence[OrderCreated]) -> None:
    """Have the orders decided, then stop the inventory: the books stand still."""
    with inventory(pipeline):
        write_orders(pipeline, orders)
        wait_for(lambda: len(read(pipeline, *OUTCOMES)) == len(orders), what="all outcomes")


def copy_event(pipeline: Pipeline, seen: Seen, *, topic: Topic, key: bytes | None = None) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    producer.produce(topic.within(pipeline.namespace), seen.value, key or seen.key, headers=list(seen.headers.items()))
    assert producer.flush(10) == 0


def execute(pipeline: Pipeline, statement: str, **values: object) -> None:
    with pipeline.administer() as connection:
        connection.execute(sa.text(statement), values)


def grow(pipeline: Pipeline, topic: Topic, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    name = topic.within(pipeline.namespace)
    admin.create_partitions([NewPartitions(name, partitions)])[name].result(10)
    wait_for(lambda: len(admin.list_topics(name, timeout=10).topics[name].partitions) == partitions, what="growth")


def trim(pipeline: Pipeline, topic: Topic, *, partition: int, to: int) -> None:
    """Take the head of a partition away, as retention does."""
    admin = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    at = TopicPartition(topic.within(pipeline.namespace), partition, to)
    assert admin.delete_records([at])[at].result(10).low_watermark == to


def commit(pipeline: Pipeline, group: Group, topic: Topic, *, partition: int, offset: int) -> None:
    """Commit an offset for a group without members."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": pipeline.kafka.kafka_bootstrap, "group.id": group.within(pipeline.namespace)}
    )
    at = TopicPartition(topic.within(pipeline.namespace), partition, offset)
    with closing(consumer):
        wait_for(lambda: _committed(consumer, at), what="the commit")


def _committed(consumer: confluent_kafka.Consumer, at: TopicPartition) -> bool:
    """Return True once the group, from which a former member may yet have to go, takes the offset."""
    try:
        consumer.commit(offsets=[at], asynchronous=False)
    except confluent_kafka.KafkaException:
        return False
    return True
