"""A real worker behind the proxies: killed at what is on the wire, cut off around the database's COMMIT.

These are the points that no line of the worker can mark: the request is sent, the answer is on its way.
"""

import socket
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest

from chaos.wire.proxy import COMMIT, END_TXN, INIT_PRODUCER_ID, METADATA, KafkaProxy, PostgresProxy
from chaos.wire.relay import Action, Direction, Frame
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write_orders
from tests.system.workers import FAST, assert_sound

REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE
ORDERS = 40


@pytest.fixture
def kafka(pipeline: Pipeline) -> Iterator[KafkaProxy]:
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        yield proxy


def start(pipeline: Pipeline, **env: str) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw", env={**FAST, **env})


def load(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": ORDERS // 2})
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])


def answered_or_ended(pipeline: Pipeline, worker: Process, orders: int) -> bool:
    return outcomes(pipeline) >= orders or worker.exit_code is not None


def outcomes(pipeline: Pipeline) -> int:
    return len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))


@pytest.mark.parametrize(
    ("direction", "action"),
    [pytest.param(REQUEST, Action.PASS, id="commit.sent"), pytest.param(RESPONSE, Action.DROP, id="commit.applied")],
)
def test_a_commit_that_no_process_lived_to_see_counts_once(
    pipeline: Pipeline, kafka: KafkaProxy, direction: Direction, action: Action
) -> None:
    """Aim: the committed offsets decide, not the memory of the dead. Fault: SIGKILL with the commit on the wire.

    Must hold: the broker has committed although no worker knows; the next one in the slot repeats nothing.
    """
    worker = start(pipeline, PIPELINE_KAFKA_BOOTSTRAP=kafka.address).wait_ready()
    end = kafka.rule(END_TXN, direction=direction, action=action, then=lambda _: worker.kill())
    load(pipeline)

    assert end.wait().client.endswith("inventory-0")
    wait_for(lambda: outcomes(pipeline) > 0, what="what the dead worker committed")
    assert worker.exit_code == -9

    start(pipeline).wait_ready()
    assert_sound(pipeline, orders=ORDERS)


def test_a_worker_killed_while_it_takes_its_slot_leaves_it_to_the_next(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """Aim: the door itself. Fault: SIGKILL with InitProducerId on the wire. Must hold: the next one takes the slot."""
    load(pipeline)
    workers: list[Process] = []

    def kill(_: Frame) -> None:
        for each in workers:
            each.kill()

    taking = kafka.rule(INIT_PRODUCER_ID, direction=REQUEST, action=Action.PASS, then=kill)
    workers.append(start(pipeline, PIPELINE_KAFKA_BOOTSTRAP=kafka.address))

    taking.wait()
    assert workers[0].wait() == -9

    start(pipeline).wait_ready()
    assert_sound(pipeline, orders=ORDERS)


def test_a_worker_that_was_given_a_wrong_address_of_the_broker_comes_back(
    pipeline: Pipeline, kafka: KafkaProxy
) -> None:
    """Aim: recovery by itself. Fault: connections are cut, and all metadata name an unused port for a while.

    Must hold: once the answers are right, the worker goes on within seconds; clients used to look there for minutes.
    """
    worker = start(pipeline, PIPELINE_KAFKA_BOOTSTRAP=kafka.address).wait_ready()
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the first outcomes")
    with socket.socket() as nowhere:
        nowhere.bind(("127.0.0.1", 0))
        kafka.elsewhere.append(nowhere.getsockname()[1])
        kafka.cut()
        asked = kafka.kinds(RESPONSE).count(METADATA)
        wait_for(lambda: kafka.kinds(RESPONSE).count(METADATA) > asked + 5, what="wrong answers")
        kafka.elsewhere.clear()
    write_orders(pipeline, [make_order()])
    wait_for(lambda: outcomes(pipeline) > ORDERS, seconds=40, what="an outcome after that")
    assert worker.exit_code is None
    assert_sound(pipeline, orders=ORDERS + 1)


def test_packets_that_take_the_slots_epoch_late_cost_no_process(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """Aim: a fence is no proof of a twin. Fault: five times within a minute a copy of the worker's first InitProducerId
    reaches the broker late, and fences it.

    Must hold: the worker takes its slot back and answers each order once; it does not end as if it had a twin.
    """
    init = kafka.rule(INIT_PRODUCER_ID, direction=REQUEST, action=Action.PASS)
    worker = start(pipeline, PIPELINE_KAFKA_BOOTSTRAP=kafka.address).wait_ready()
    pipeline.set_stock({"tea": 10})
    for answered in range(1, 6):
        kafka.replay(init.wait())
        write_orders(pipeline, [make_order()])
        wait_for(partial(answered_or_ended, pipeline, worker, answered), what="an outcome")
        assert worker.exit_code is None, worker.output()
    assert worker.output().count('"producer.refused"') + worker.output().count('"transaction.unsure"') >= 5
    assert "slot.contested" in worker.output()
    assert_sound(pipeline, orders=5)


@pytest.mark.parametrize("direction", [REQUEST, RESPONSE], ids=["before", "after"])
def test_a_worker_cut_off_around_the_commit_asks_what_became_of_it(
    make_pipeline: Callable[..., Pipeline], direction: Direction
) -> None:
    """Aim: the decision row answers. Fault: connection cut before or after COMMIT reached PostgreSQL, three times.

    Must hold: each order is decided once; what was committed unseen is answered from its rows; no worker dies of it.
    """
    pipeline = make_pipeline(partitions=1)
    at = urlsplit(pipeline.postgres("inventory_rw").postgres_url)
    with PostgresProxy((str(at.hostname), int(at.port or 5432))) as postgres:
        url = f"postgresql://inventory_rw@{postgres.address}/{pipeline.settings.database}"
        worker = start(pipeline, PIPELINE_POSTGRES_URL=url, PIPELINE_BATCH_RECORDS_MAX="10").wait_ready()
        cut = postgres.rule(
            COMMIT, direction=direction, action=Action.CUT, times=3, where=lambda frame: frame.client == "inventory-0"
        )
        load(pipeline)
        judgement = assert_sound(pipeline, orders=ORDERS)

        assert len(cut.frames) == 3
        assert worker.exit_code is None
        assert worker.stop() == 0

    assert judgement.counts["reserved"] == ORDERS // 2
    assert (judgement.counts["replays"] > 0) == (direction is RESPONSE)
