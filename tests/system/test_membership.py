"""Workers whose slot, share or membership changes while they hold a batch: nothing is published twice, either way.

The broker's group is the one authority over who may commit what; these tests take it away in every way there is.
"""

import json
from pathlib import Path

import pytest

from chaos.run.plan import Action, Arm
from chaos.wire.proxy import KafkaProxy
from chaos.wire.relay import Action as Wire
from chaos.wire.relay import Direction
from onceloop.errors import ExitCode
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import wait_for, write_orders
from tests.system.workers import SHIPPED, Workers, assert_sound

ORDERS = 100
IMPATIENT = json.dumps({"session.timeout.ms": 2000, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 2500})
"""A batch may take no longer than 2.5 s."""
OUTLASTED_SECONDS = 8.0
"""The poll interval, up to 0.5 s until the client looks at it, then the session: 5 s; and slack for a busy machine."""
JOIN_GROUP, SYNC_GROUP = 11, 14


def load(pipeline: Pipeline, orders: int = ORDERS) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(orders)])


@pytest.fixture
def workers(pipeline: Pipeline, tmp_path: Path) -> Workers:
    pipeline.set_stock({"tea": 10_000})
    return Workers(pipeline, tmp_path)


@pytest.mark.parametrize("point", ["metadata", "offsets_sent"])
def test_twin_in_a_slot_ends_one_of_the_two_and_doubles_nothing(
    pipeline: Pipeline, workers: Workers, point: str
) -> None:
    """H8: two live processes with the same slot.

    Fault: a second worker starts in the slot while the first sleeps with a batch in hand. Must hold: the former ends by
    itself, saying that it was refused; the latter goes on; every order has one event.
    """
    nap = Arm(point=f"inventory:{point}", action=Action.SLEEP, hit=2, seconds=2.0)
    workers.arm(nap)
    former = workers.start().wait_ready()
    load(pipeline)
    workers.wait_fired(nap)
    latter = workers.start().wait_ready()

    assert former.wait(timeout_seconds=20) == ExitCode.UNAVAILABLE, former.output()
    assert_sound(pipeline, orders=ORDERS)
    load(pipeline)
    assert_sound(pipeline, orders=2 * ORDERS)
    assert latter.stop() == 0, latter.output()


def test_share_that_moves_while_a_batch_is_decided_waits_for_the_batch(pipeline: Pipeline, workers: Workers) -> None:
    """H11, H12: the metadata of a batch is that of its generation; newer metadata would authorise what moved away.

    Fault: a second slot joins while the first sleeps with a decided batch. Must hold: the group waits for the sleeper,
    whose batch is committed under its old generation; then both share, nothing is decided or published again.
    """
    nap = Arm(point="inventory:db.committed", action=Action.SLEEP, hit=2, seconds=4.0)
    workers.arm(nap)
    former = workers.start(slot=0, **SHIPPED).wait_ready()
    load(pipeline)
    workers.wait_fired(nap)
    latter = workers.start(slot=1, **SHIPPED).wait_ready()
    judgement = assert_sound(pipeline, orders=ORDERS)
    assert judgement.counts["replays"] == 0
    assert '"transaction.unsure"' not in former.output()
    for worker in (former, latter):
        assert worker.stop() == 0, worker.output()


def test_batch_that_outlasts_the_membership_is_published_once(pipeline: Pipeline, workers: Workers) -> None:
    """H13: the assignment is lost while the batch is worked on.

    Fault: the worker sleeps past max.poll.interval, then goes on as if nothing was. Must hold: its transaction is
    refused; it, or its restart, answers every order once.
    """
    nap = Arm(point="inventory:db.committed", action=Action.SLEEP, hit=2, seconds=OUTLASTED_SECONDS)
    workers.arm(nap)
    slow = workers.start(PIPELINE_KAFKA_CONSUMER_OPTIONS=IMPATIENT).wait_ready()
    load(pipeline)
    workers.wait_fired(nap)
    wait_for(lambda: "transaction.unsure" in slow.output(), what="the refused transaction")
    assert_sound(pipeline, orders=ORDERS)
    assert slow.stop() == 0, slow.output()


@pytest.mark.parametrize(
    ("kind", "action"),
    [(JOIN_GROUP, Wire.DROP), (SYNC_GROUP, Wire.CUT)],
    ids=["answer to join lost", "connection reset in place of the share"],
)
def test_member_whose_joining_is_disturbed_joins_by_itself(
    pipeline: Pipeline, workers: Workers, kind: int, action: Wire
) -> None:
    """H40: a static member that asks again could be refused for its own former self.

    Fault: the group's answer is lost on the way. Must hold: the worker joins without a restart; a lost answer to
    JoinGroup costs it max.poll.interval and 3 s, a reset nothing.
    """
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        lost = proxy.rule(kind, direction=Direction.RESPONSE, action=action)
        worker = workers.start(PIPELINE_KAFKA_BOOTSTRAP=proxy.address, PIPELINE_KAFKA_CONSUMER_OPTIONS=IMPATIENT)
        load(pipeline)
        lost.wait()
        assert_sound(pipeline, orders=ORDERS)
        assert worker.stop() == 0, worker.output()


def test_worker_cut_off_from_the_group_commits_nothing_of_its_old_share(pipeline: Pipeline, workers: Workers) -> None:
    """H40: the worker believes that it owns what the group has given away.

    Fault: nothing passes between it and the broker, from the middle of a batch until another slot has taken over and
    answered everything. Must hold: its transaction is refused, it joins again, and every order has one event.
    """
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        nap = Arm(point="inventory:db.committed", action=Action.SLEEP, hit=2, seconds=2.0)
        workers.arm(nap)
        cut_off = workers.start(slot=0, PIPELINE_KAFKA_BOOTSTRAP=proxy.address).wait_ready()
        load(pipeline)
        workers.wait_fired(nap)
        proxy.partition()
        heir = workers.start(slot=1)
        assert_sound(pipeline, orders=ORDERS)
        proxy.heal()
        wait_for(lambda: "transaction.unsure" in cut_off.output(), what="the refused transaction")
        load(pipeline)
        assert_sound(pipeline, orders=2 * ORDERS)
        for worker in (cut_off, heir):
            assert worker.stop() == 0, worker.output()
