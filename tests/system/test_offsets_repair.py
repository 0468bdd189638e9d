"""Inventory's offsets removed, moved or pending: the runbook's commands, as written there, put them right."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from confluent_kafka import Consumer, Producer, TopicPartition

from chaos.run.plan import Action, Arm
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED
from onceloop.records import Partition
from tests.commands import Shell, blocks
from tests.factories import make_order
from tests.groups import committed, delete_records, forget_group, set_group
from tests.pipeline import Pipeline
from tests.records import read, transactional_producer, wait_for, write_orders
from tests.system.workers import Workers, assert_sound

ORDERS = 60
LASTING = '{"transaction.timeout.ms": 120000, "message.timeout.ms": 3000, "socket.timeout.ms": 2000}'
"""The broker ends nothing by itself while the test runs, as with a transaction that hangs."""
(REPAIR,) = blocks("docs/runbook.md", "Setting the offsets of `inventory`")
DESCRIBE, ABORT = blocks("docs/runbook.md", "Offsets of `inventory` that stay pending")


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=2)
    pipeline.set_stock({"tea": 10_000})
    return pipeline


@pytest.fixture
def workers(pipeline: Pipeline, tmp_path: Path) -> Workers:
    return Workers(pipeline, tmp_path)


@pytest.fixture
def shell(pipeline: Pipeline, tmp_path: Path) -> Shell:
    return Shell(pipeline, tmp_path)


def load(pipeline: Pipeline) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])


def outcomes(pipeline: Pipeline) -> int:
    return len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))


def answer_all(pipeline: Pipeline, workers: Workers) -> dict[Partition, int]:
    """Have all orders answered and the workers stopped; return where the group stands then."""
    worker = workers.start().wait_ready()
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    assert worker.stop() == 0, worker.output()
    return committed(pipeline, INVENTORY)


def note(pipeline: Pipeline, offsets: Mapping[Partition, int]) -> None:
    """Leave the note behind: its worker died between Kafka's commit and it, or the note was lost with the server."""
    with pipeline.administer() as connection:
        for at, offset in offsets.items():
            connection.execute(
                sa.text('UPDATE inventory.progress SET "offset" = :offset WHERE partition = :number'),
                {"offset": offset, "number": at.number},
            )


def pend(pipeline: Pipeline, offsets: Mapping[Partition, int]) -> Producer:
    """Leave offsets of the group in a transaction that is never ended."""
    options = {
        "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
        "group.id": INVENTORY.within(pipeline.namespace),
    }
    consumer = Consumer(options)
    producer = transactional_producer(pipeline)
    producer.begin_transaction()
    producer.send_offsets_to_transaction(
        [TopicPartition(*at, offset) for at, offset in offsets.items()], consumer.consumer_group_metadata(), 20
    )
    consumer.close()
    return producer


def end_pending(shell: Shell) -> None:
    """Do what the runbook says of pending offsets, with the numbers that its commands show."""
    shown = shell.run("pipeline offsets repair inventory", check=False)
    partition = re.search(r"open on __consumer_offsets\[(\d+)\]", shown)
    assert partition is not None, shown
    open_starts = begun(shell, partition[1])

    def only_one_stays() -> bool:
        open_starts.intersection_update(begun(shell, partition[1]))
        return len(open_starts) == 1

    wait_for(only_one_stays, seconds=60, what="the other groups' transactions to end")
    shell.run(ABORT, PARTITION=partition[1], START_OFFSET=open_starts.pop())


def begun(shell: Shell, partition: str) -> set[str]:
    """Return where the transactions that are open on a partition of the groups' offsets began."""
    described = shell.run(DESCRIBE, PARTITION=partition)
    starts = [line.split()[-1] for line in described.splitlines() if re.fullmatch(r"[\d\s-]*\d\s*", line)]
    return {start for start in starts if start.isdecimal()}


@pytest.mark.parametrize("moved", ["forgotten", "back to the beginning", "back within the last batch", "to the end"])
def test_repaired_offsets_publish_no_order_twice_and_lose_none(
    pipeline: Pipeline, workers: Workers, shell: Shell, moved: str
) -> None:
    """Aim: S5, L1. Fault: the group's offsets are gone, or somewhere else, while orders wait.

    In "back within the last batch" the note in PostgreSQL lies as far back, which the worker's own guard cannot see.
    """
    right = answer_all(pipeline, workers)
    load(pipeline)
    match moved:
        case "forgotten":
            forget_group(pipeline, INVENTORY)
        case "back to the beginning":
            set_group(pipeline, INVENTORY, dict.fromkeys(right, 0))
        case "back within the last batch":
            earlier = {at: offset - 3 for at, offset in right.items()}
            note(pipeline, earlier)
            set_group(pipeline, INVENTORY, earlier)
        case "to the end":
            set_group(pipeline, INVENTORY, pipeline.admin.stable_ends([pipeline.topics[0]]))

    shell.run(REPAIR)
    assert committed(pipeline, INVENTORY) == right
    assert "nothing to set" in shell.run(REPAIR)
    workers.start()
    assert_sound(pipeline, orders=2 * ORDERS)


def test_pending_offsets_of_a_committed_transaction_are_ended_without_publishing_an_order_twice(
    pipeline: Pipeline, workers: Workers, shell: Shell
) -> None:
    """H: a transaction that was committed everywhere but where the group's offsets are kept (ADR 36).

    Its events are visible, the group stands before them, and so does the note in PostgreSQL.
    """
    right = answer_all(pipeline, workers)
    earlier = {at: offset - 3 for at, offset in right.items()}
    note(pipeline, earlier)
    set_group(pipeline, INVENTORY, earlier)
    hanging = pend(pipeline, right)

    end_pending(shell)
    shell.run(REPAIR)
    assert committed(pipeline, INVENTORY) == right
    workers.start()
    load(pipeline)
    assert_sound(pipeline, orders=2 * ORDERS)
    del hanging


def test_pending_offsets_of_a_dead_worker_are_ended_without_losing_an_order(
    pipeline: Pipeline, workers: Workers, shell: Shell
) -> None:
    """Fault: SIGKILL with the offsets sent and no commit, in a transaction that outlasts the test; no restart."""
    arm = Arm(point="inventory:offsets_sent", action=Action.KILL, hit=2, flush=True)
    workers.arm(arm)
    killed = workers.start(PIPELINE_KAFKA_PRODUCER_OPTIONS=LASTING)
    load(pipeline)
    assert killed.wait(timeout_seconds=20) == -9, killed.output()

    refused = shell.run(REPAIR, check=False)
    assert "a transaction is open on" in refused, "events may be hidden behind it"
    workers.start(slot=0).wait_ready().stop()  # its slot's next process ends it, as the runbook says first
    shell.run(REPAIR)
    workers.start()
    assert_sound(pipeline, orders=ORDERS)


def test_offsets_are_not_set_beside_a_live_worker(pipeline: Pipeline, workers: Workers, shell: Shell) -> None:
    """A worker would go on from where it is, and commit that over what was set."""
    workers.start().wait_ready()
    before = committed(pipeline, INVENTORY)
    assert "has live members" in shell.run(REPAIR, check=False)
    assert committed(pipeline, INVENTORY) == before


def test_offsets_are_set_while_workers_are_frozen_outside_the_group(
    pipeline: Pipeline, workers: Workers, shell: Shell
) -> None:
    """The local stack's way to stop them. Thawed, a worker finds itself out of the group and rereads its offsets."""
    worker = workers.start().wait_ready()
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    right = committed(pipeline, INVENTORY)
    worker.freeze()
    set_group(pipeline, INVENTORY, dict.fromkeys(right, 0))
    shell.run(REPAIR)
    assert committed(pipeline, INVENTORY) == right
    worker.thaw()
    load(pipeline)
    if worker.exit_code is not None:
        workers.start()  # as the supervisor does
    assert_sound(pipeline, orders=2 * ORDERS)


def test_orders_that_left_the_topic_unanswered_are_skipped_by_no_accident(
    pipeline: Pipeline, workers: Workers, shell: Shell
) -> None:
    """Retention overtook the group: to go on behind the gap is a decision, and a person's."""
    right = answer_all(pipeline, workers)
    load(pipeline)
    gone = {at: offset + 5 for at, offset in right.items()}
    delete_records(pipeline, gone)
    refused = shell.run("pipeline offsets repair inventory", check=False)
    assert "5 orders before" in refused
    assert committed(pipeline, INVENTORY) == right
    shell.run("pipeline offsets repair inventory --skip-removed")
    assert committed(pipeline, INVENTORY) == gone
