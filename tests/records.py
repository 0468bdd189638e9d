"""Write to topics and read them back, with clients of the tests' own."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import confluent_kafka
from confluent_kafka import TopicPartition

from common.events.codec import Codec
from common.events.orders import OrderCreated
from common.kafka.schema_registry import open_codec
from common.topics import EVENT_TOPICS, ORDERS_CREATED, Topic
from tests.pipeline import Pipeline

SEEN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One visible record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


def codec_of(pipeline: Pipeline) -> Codec:
    return open_codec(pipeline.kafka, EVENT_TOPICS)


def write(
    pipeline: Pipeline, topic: Topic, records: Iterable[tuple[bytes | None, bytes | None]], *, partition: int = -1
) -> None:
    """Write (key, value) pairs; return when all are acknowledged."""
    producer = confluent_kafka.Producer({"bootstrap.servers": pipeline.kafka.kafka_bootstrap, "linger.ms": 5})
    for key, value in records:
        producer.produce(topic.within(pipeline.namespace), value, key, partition=partition)
        producer.poll(0)
    assert producer.flush(20) == 0


def transactional_producer(pipeline: Pipeline) -> confluent_kafka.Producer:
    """Return a producer of a program that is not ours; the caller begins and ends its transactions."""
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
            "transactional.id": f"{pipeline.namespace}.foreign",
            "linger.ms": 0,
        }
    )
    producer.init_transactions(20)
    return producer


def write_orders(pipeline: Pipeline, orders: Sequence[OrderCreated], *, partition: int = -1) -> None:
    codec = codec_of(pipeline)
    write(pipeline, ORDERS_CREATED, ((o.user_id.encode(), codec.encode(o)) for o in orders), partition=partition)


def read(pipeline: Pipeline, *topics: Topic, isolation: str = "read_committed") -> list[Seen]:
    """Return all that is visible on these topics now, in offset order per partition."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
            "group.id": "reads-once",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        names = [topic.within(pipeline.namespace) for topic in topics]
        partitions = [
            TopicPartition(name, number, confluent_kafka.OFFSET_BEGINNING)
            for name in names
            for number in consumer.list_topics(name, timeout=10).topics[name].partitions
        ]
        consumer.assign(partitions)
        return list(_until_ends(consumer, len(partitions)))
    finally:
        consumer.close()


def _until_ends(consumer: confluent_kafka.Consumer, partitions: int) -> Iterable[Seen]:
    ended: set[tuple[str, int]] = set()
    deadline = time.monotonic() + SEEN_SECONDS
    while len(ended) < partitions:
        assert time.monotonic() < deadline, f"{partitions - len(ended)} partitions did not end"
        message = consumer.poll(0.5)
        if message is None:
            continue
        error = message.error()
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        if error is not None:
            assert error.code() == confluent_kafka.KafkaError._PARTITION_EOF, error.str()
            ended.add((topic, partition))
            continue
        headers = _headers(message)
        yield Seen(topic, partition, offset, message.key(), message.value(), headers)


def wait_for(condition: Callable[[], bool], *, seconds: float = SEEN_SECONDS, what: str = "the condition") -> None:
    """Return as soon as the condition holds; fail after so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)


def _headers(message: Any) -> dict[str, bytes]:
    return dict(message.headers() or ())
