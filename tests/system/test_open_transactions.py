"""Transactions that stay open: how long they hold readers up, and what becomes of a worker that wakes inside one."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition

from chaos.run.plan import Action, Arm
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import wait_for, write_orders
from tests.system.workers import FAST, Workers, assert_sound

ORDERS = 100
PATIENT = '{"session.timeout.ms": 30000, "heartbeat.interval.ms": 500}'
"""The group forgives a long sleep, so that the transaction's own fencing is all that is left."""
TRANSACTION_SECONDS, SWEEP_SECONDS = 4.0, 10.0
SHORT = FAST["PIPELINE_KAFKA_PRODUCER_OPTIONS"]
LASTING_SECONDS = 60.0
LASTING = '{"transaction.timeout.ms": 60000, "message.timeout.ms": 3000, "socket.timeout.ms": 2000}'
"""Readers that are free long before so much has passed were freed by the successor, not by the clock."""


@contextmanager
def ends(pipeline: Pipeline, isolation: str) -> Iterator[confluent_kafka.Consumer]:
    options = {"bootstrap.servers": pipeline.kafka.kafka_bootstrap, "group.id": "ends", "isolation.level": isolation}
    with closing(confluent_kafka.Consumer(options)) as consumer:
        yield consumer


def held_back(pipeline: Pipeline) -> int:
    """Return how many offsets of the outcomes an open transaction keeps from readers."""
    partitions = [
        TopicPartition(topic.within(pipeline.namespace), number)
        for topic in pipeline.topics
        if topic.name in {INVENTORY_RESERVED.name, INVENTORY_FAILED.name}
        for number in range(topic.partitions)
    ]
    with ends(pipeline, "read_uncommitted") as all_of_it, ends(pipeline, "read_committed") as stable:
        return sum(
            all_of_it.get_watermark_offsets(at, timeout=5)[1] - stable.get_watermark_offsets(at, timeout=5)[1]
            for at in partitions
        )


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return make_pipeline(partitions=2)


@pytest.fixture
def workers(pipeline: Pipeline, tmp_path: Path) -> Workers:
    pipeline.set_stock({"tea": 10_000})
    return Workers(pipeline, tmp_path)


def load(pipeline: Pipeline) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])


def test_worker_that_sleeps_past_its_transaction_is_fenced_and_goes_on(pipeline: Pipeline, workers: Workers) -> None:
    """H7: the broker's own time-out looks like a twin.

    Fault: SIGSTOP inside an open transaction until the broker has aborted it, then SIGCONT. Must hold: the commit is
    refused, the producer is rebuilt, the process lives, every order has one event.
    """
    arm = Arm(point="inventory:offsets_sent", action=Action.STOP, hit=2, flush=True)
    workers.arm(arm)
    sleeper = workers.start(PIPELINE_KAFKA_CONSUMER_OPTIONS=PATIENT).wait_ready()
    load(pipeline)
    workers.wait_fired(arm)
    assert held_back(pipeline) > 0, "the transaction is open"
    wait_for(lambda: held_back(pipeline) == 0, seconds=TRANSACTION_SECONDS + SWEEP_SECONDS, what="the broker's abort")
    sleeper.thaw()

    assert_sound(pipeline, orders=ORDERS)
    assert '"error": "_FENCED"' in sleeper.output()
    load(pipeline)
    assert_sound(pipeline, orders=2 * ORDERS)
    assert sleeper.stop() == 0, sleeper.output()


def test_open_transaction_of_the_dead_ends_with_their_successor_or_with_its_time(
    pipeline: Pipeline, workers: Workers
) -> None:
    """H19: an open transaction stalls every read_committed reader.

    Fault: SIGKILL with records written and no commit, twice: once a successor takes the slot, once none does. Must
    hold: readers go on when the successor initialises, however long the transaction might last; without one, when its
    time is over.
    """
    for number, heir in enumerate((True, False), start=1):
        arm = Arm(point="inventory:flushed", action=Action.KILL, hit=2, flush=True)
        workers.arm(arm)
        killed = workers.start(PIPELINE_KAFKA_PRODUCER_OPTIONS=LASTING if heir else SHORT)
        load(pipeline)
        assert killed.wait(timeout_seconds=20) == -9, killed.output()
        assert held_back(pipeline) > 0, "readers wait"
        successor = workers.start() if heir else None
        seconds = LASTING_SECONDS / 2 if heir else TRANSACTION_SECONDS + SWEEP_SECONDS
        wait_for(lambda: held_back(pipeline) == 0, seconds=seconds, what="free readers")
        successor = successor or workers.start()
        assert_sound(pipeline, orders=number * ORDERS)
        assert successor.stop() == 0
