"""A fault of one partition: a worker is parted from its leader while every other partition is served."""

import random
import time

from confluent_kafka.admin import AdminClient

from chaos.faults.harness import FIRED_SECONDS_MAX, Evidence, Fault, Harness, Hurts
from chaos.wire.reassign import move
from chaos.wire.relay import Direction
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED

AWAY_SECONDS = 3.5
"""More than the producers' patience with a record."""
CALL_SECONDS = 2.0


def take_leader_away(harness: Harness, chance: random.Random) -> Evidence:
    """Move a partition to a second broker, part a worker from that for a while, move the partition back.

    The broker lives and leads: Kafka skips the transaction markers of a partition without a leader
    (docs/adr/0043), after which nothing is promised.
    """
    settings = harness.pipeline.settings
    topic = chance.choice((ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED)).within(settings.namespace)
    bootstrap = settings.kafka_bootstrap
    leaders = harness.insist(lambda: _leaders(bootstrap, topic), "look at the partitions")
    partition, began = chance.choice(sorted(leaders)), time.monotonic()
    spoken = len(harness.beside.kinds(Direction.REQUEST))
    harness.insist(lambda: move(bootstrap, topic, partition, harness.second.id), "move a partition")
    try:
        harness.pipeline.wait(
            lambda: len(harness.beside.kinds(Direction.REQUEST)) > spoken,
            "a worker at the second broker",
            seconds=FIRED_SECONDS_MAX,
        )
        harness.beside.partition()
        time.sleep(AWAY_SECONDS)
    finally:
        harness.beside.heal()
        harness.insist(lambda: move(bootstrap, topic, partition, leaders[partition]), "move a partition back")
    return {"partition": f"{topic}[{partition}]", "seconds": round(time.monotonic() - began, 2)}


def _leaders(bootstrap: str, topic: str) -> dict[int, int]:
    """Return partition -> the broker that leads it, by a new client: one that knows both may ask the other broker."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    found = client.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
    return {number: each.leader for number, each in found.items()}


FAULTS = (Fault("partition's leader away", Hurts.BROKER, take_leader_away),)
