"""A fault of one partition: its leader goes away while every other partition is served."""

import random
import time
from contextlib import suppress

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from chaos.faults.field import FIRED_SECONDS_MAX, Evidence, Fault, Field, Hurts
from chaos.reassign import move
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED

AWAY_SECONDS = 3.5
"""More than the producers' patience with a record."""
CALL_SECONDS = 2.0
NO_LEADER = -1


def take_leader_away(field: Field, chance: random.Random) -> Evidence:
    """Move a partition to a second broker, freeze that until it counts as gone and longer, move the partition back.

    Frozen and not killed: a broker that was killed takes ten seconds and a core to start again, on two cores more.
    """
    settings = field.lane.site.settings
    topic = chance.choice((ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED)).within(settings.namespace)
    bootstrap = settings.kafka_bootstrap
    leaders = field.insist(lambda: _leaders(bootstrap, topic), "look at the partitions")
    partition, began = chance.choice(sorted(leaders)), time.monotonic()
    second, server = field.second.id, field.second.server
    field.insist(lambda: move(bootstrap, topic, partition, second), "move a partition")
    server.freeze()
    try:
        field.lane.wait(
            lambda: _is_without(bootstrap, topic, partition), "a partition without a leader", seconds=FIRED_SECONDS_MAX
        )
        gone = time.monotonic()
        time.sleep(AWAY_SECONDS)
    finally:
        server.thaw()
        field.insist(lambda: move(bootstrap, topic, partition, leaders[partition]), "move a partition back")
    back = time.monotonic()
    return {
        "partition": f"{topic}[{partition}]",
        "away_seconds": round(back - gone, 2),
        "seconds": round(time.monotonic() - began, 2),
    }


def _is_without(bootstrap: str, topic: str, partition: int) -> bool:
    """Return True if the partition has no leader."""
    with suppress(KafkaException):
        return _leaders(bootstrap, topic)[partition] == NO_LEADER
    return False


def _leaders(bootstrap: str, topic: str) -> dict[int, int]:
    """Return partition -> the broker that leads it, by a new client: one that knows both may ask the frozen one."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    found = client.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
    return {number: each.leader for number, each in found.items()}


FAULTS = (Fault("partition's leader away", Hurts.BROKER, take_leader_away),)
