"""A group whose committed offsets lie before what is answered: no order is published twice, whatever set them back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from chaos.run.plan import Action, Arm
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED
from tests.factories import make_order
from tests.groups import committed, set_group
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write_orders
from tests.restores import progress
from tests.system.workers import Workers

ORDERS = 20


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=2)
    pipeline.set_stock({"tea": 1000})
    return pipeline


def start_worker(pipeline: Pipeline) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw").wait_ready()


def load(pipeline: Pipeline) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])


def outcomes(pipeline: Pipeline) -> int:
    return len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))


def test_worker_does_not_believe_offsets_that_went_back(pipeline: Pipeline) -> None:
    """Aim: S5. Fault: the group stands at the beginning again, as a broker answers that is still loading it.

    Must hold: no order is published twice; the worker pauses and says why; once the offsets are right, it goes on.
    """
    worker = start_worker(pipeline)
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    wait_for(lambda: progress(pipeline) == committed(pipeline, INVENTORY), what="the progress")
    worker.stop()
    right = committed(pipeline, INVENTORY)
    set_group(pipeline, INVENTORY, dict.fromkeys(right, 0))

    doubter = start_worker(pipeline)
    wait_for(lambda: "old committed offsets" in doubter.output(), what="a word about the offsets")
    doubter.stop()
    assert outcomes(pipeline) == ORDERS
    assert committed(pipeline, INVENTORY) == dict.fromkeys(right, 0), "the worker commits nothing there"

    set_group(pipeline, INVENTORY, right)
    start_worker(pipeline)
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) >= 2 * ORDERS, what="the outcomes of later orders")
    assert outcomes(pipeline) == 2 * ORDERS


def test_operator_who_means_it_has_orders_notified_again(pipeline: Pipeline) -> None:
    """A replay on purpose: group and progress set back. Equal events come again, no stock is taken."""
    worker = start_worker(pipeline)
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    worker.stop()
    left = pipeline.available()

    set_group(pipeline, INVENTORY, dict.fromkeys(committed(pipeline, INVENTORY), 0))
    with pipeline.administer() as connection:
        connection.execute(sa.text('UPDATE inventory.progress SET "offset" = 0'))
    start_worker(pipeline)

    wait_for(lambda: outcomes(pipeline) == 2 * ORDERS, what="the outcomes once more")
    events = [seen.value for seen in read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED)]
    assert all(events.count(event) == 2 for event in events)
    assert pipeline.available() == left


def test_offsets_set_ahead_lose_no_order(pipeline: Pipeline) -> None:
    """Aim: G4. Fault: an operator resets the group to latest while orders wait.

    Must hold: no order is passed over; the worker says from where on; once the offsets are right, all are answered.
    """
    worker = start_worker(pipeline)
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    wait_for(lambda: progress(pipeline) == committed(pipeline, INVENTORY), what="the progress")
    worker.stop()
    right = committed(pipeline, INVENTORY)
    load(pipeline)
    set_group(
        pipeline, INVENTORY, {at: right[at] + 3 for at in right}
    )  # as `--to-datetime` may; `--to-latest` goes further

    doubter = start_worker(pipeline)
    wait_for(lambda: "have no decision" in doubter.output(), what="a word about the offsets")
    load(pipeline)  # nothing of it is decided either
    doubter.stop()
    assert outcomes(pipeline) == ORDERS

    set_group(pipeline, INVENTORY, right)
    start_worker(pipeline)
    wait_for(lambda: outcomes(pipeline) >= 3 * ORDERS, what="the outcomes of all orders")
    assert outcomes(pipeline) == 3 * ORDERS


def test_worker_that_dies_before_its_note_is_believed_by_the_next_one(pipeline: Pipeline, tmp_path: Path) -> None:
    """Aim: a lawful gap between note and offsets stays lawful: what lies in it has decisions."""
    workers = Workers(pipeline, tmp_path)
    arm = Arm(point="inventory:committed", action=Action.KILL, hit=1)
    workers.arm(arm)
    killed = workers.start()
    load(pipeline)
    assert killed.wait(timeout_seconds=30) == -9, killed.output()
    assert progress(pipeline) == {}, "killed between the commit and the note"
    assert sum(committed(pipeline, INVENTORY).values()) > 0

    successor = workers.start()
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    load(pipeline)
    wait_for(lambda: progress(pipeline) == committed(pipeline, INVENTORY), what="the progress")
    assert "batch.postponed" not in successor.output()
    assert "progress.unproven" not in successor.output()
