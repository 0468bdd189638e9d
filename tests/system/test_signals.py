"""Signals at the worst moment: in the middle of a commit, many at once, or frozen again and again."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from chaos.run.plan import Action, Arm
from chaos.wire.proxy import END_TXN, KafkaProxy
from chaos.wire.relay import Action as Wire
from chaos.wire.relay import Direction
from onceloop.errors import ExitCode
from onceloop.kafka.transactional_producer import SLICE_SECONDS
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import write_orders
from tests.system.workers import SHIPPED, Workers, assert_sound

ORDERS = 400
STORM_SECONDS = 3.0
SLACK_SECONDS = 3.0


@pytest.fixture
def workers(pipeline: Pipeline, tmp_path: Path) -> Workers:
    pipeline.set_stock({"tea": 10_000})
    return Workers(pipeline, tmp_path)


def load(pipeline: Pipeline) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])


def test_storm_of_stops_and_wakes_interrupts_no_call(pipeline: Pipeline, workers: Workers) -> None:
    """H17: a signal interrupts system calls inside the clients, in whatever call they are.

    Fault: SIGSTOP and SIGCONT every few milliseconds while batches of five go through. Must hold: the process lives,
    every order has one event.
    """
    worker = workers.start(PIPELINE_BATCH_RECORDS_MAX="5").wait_ready()
    load(pipeline)
    chance, ends = random.Random(7), time.monotonic() + STORM_SECONDS
    while time.monotonic() < ends:
        worker.freeze()
        time.sleep(chance.uniform(0, 0.004))
        worker.thaw()
        time.sleep(chance.uniform(0, 0.02))
    assert_sound(pipeline, orders=ORDERS)
    assert worker.stop() == 0, worker.output()


@pytest.mark.parametrize("point", ["db.sent", "offsets_sent"])
def test_stop_that_is_asked_for_inside_a_batch_finishes_it(pipeline: Pipeline, workers: Workers, point: str) -> None:
    """H17: the handler only sets a flag.

    Fault: SIGTERM at this very point. Must hold: the batch in hand is committed, the process ends in order, and the
    next one repeats nothing of it.
    """
    arm = Arm(point=f"inventory:{point}", action=Action.TERM, hit=3)
    workers.arm(arm)
    worker = workers.start(slot=0, **SHIPPED)
    load(pipeline)
    assert worker.wait(timeout_seconds=20) == ExitCode.OK, worker.output()
    assert '"transaction.unsure"' not in worker.output()
    assert worker.output().count('"batch.committed"') == 3
    successor = workers.start(slot=0, **SHIPPED)
    judgement = assert_sound(pipeline, orders=ORDERS)
    assert judgement.counts["replays"] == 0
    assert successor.stop() == 0


def test_second_signal_inside_a_commit_is_as_safe_as_a_kill(pipeline: Pipeline, workers: Workers) -> None:
    """H17, H33: an impatient operator loses nothing.

    Fault: the answer to a commit is lost, and signals rain into the call that waits for it. Must hold: the process is
    gone once that call returns, after 2 s at most; the next one answers every order once.
    """
    chance = random.Random(7)
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        worker = workers.start(PIPELINE_KAFKA_BOOTSTRAP=proxy.address).wait_ready()
        lost = proxy.rule(END_TXN, direction=Direction.RESPONSE, action=Wire.DROP, nth=3, times=9)
        load(pipeline)
        lost.wait()
        deadline = time.monotonic() + SLICE_SECONDS + SLACK_SECONDS
        while worker.exit_code is None and time.monotonic() < deadline:
            os.kill(worker.pid, chance.choice([signal.SIGTERM, signal.SIGINT]))
            time.sleep(0.01)
        assert worker.exit_code == ExitCode.UNAVAILABLE, worker.output()
    successor = workers.start()
    assert_sound(pipeline, orders=ORDERS)
    assert successor.stop() == 0
