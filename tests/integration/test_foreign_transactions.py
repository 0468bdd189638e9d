"""Commit markers of a foreign writer take offsets on the input topic; the loop passes them and misses no order."""

import confluent_kafka

from common.topics import INVENTORY_FAILED, ORDERS_CREATED
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import codec_of, read, wait_for

TRANSACTIONS = 3
PARTITIONS = 2


def test_orders_written_in_transactions_are_all_answered(pipeline: Pipeline) -> None:
    """One fetch then holds several empty offsets, on several partitions: forgetting one for another never ends."""
    codec = codec_of(pipeline)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
            "transactional.id": f"{pipeline.namespace}.foreign",
            "linger.ms": 0,
        }
    )
    producer.init_transactions(10)
    for _ in range(TRANSACTIONS):
        producer.begin_transaction()
        for number in range(PARTITIONS):
            topic = ORDERS_CREATED.within(pipeline.namespace)
            producer.produce(topic, codec.encode(make_order()), b"ada", partition=number)
        producer.commit_transaction(10)

    worker = pipeline.start("inventory_service", role="inventory_rw").wait_ready()

    wait_for(
        lambda: len(read(pipeline, INVENTORY_FAILED)) == TRANSACTIONS * PARTITIONS,
        what="an outcome for every order",
    )
    assert '"offsets.empty"' in worker.output(), "the markers were seen"
    assert worker.stop() == 0, worker.output()
