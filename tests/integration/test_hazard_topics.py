"""Input topics that change under a worker: recreated, or cut by retention. Offsets then mean other records, or none."""

from collections.abc import Callable

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED
from onceloop.errors import ExitCode
from tests.commands import blocks
from tests.factories import make_order
from tests.operators import recreate
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write_orders

ORDERS = 20
(KEEP_DECISIONS,) = blocks("docs/runbook.md", "A topic was recreated")
UNITS = make_order().lines[0].quantity


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=1)
    pipeline.set_stock({"tea": 1000})
    return pipeline


def start_worker(pipeline: Pipeline) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw")


def load(pipeline: Pipeline) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])


def outcomes(pipeline: Pipeline) -> int:
    return len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))


def test_recreated_topic_ends_the_worker_before_it_skips_orders_unnoticed(pipeline: Pipeline) -> None:
    """H42: the new topic has as many records as the old one, so the worker's offset fits and all of them lie below it.

    Fault: the input topic is deleted and recreated under an idle worker, and filled again. Must hold: the worker ends
    saying so, and so does every restart; no record of the new topic counts as a copy of an old one. What the runbook
    says then keeps the old decisions and has the new orders answered.
    """
    worker = start_worker(pipeline).wait_ready()
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    recreate(pipeline, ORDERS_CREATED)
    load(pipeline)
    assert worker.wait(timeout_seconds=15) in {ExitCode.SOFTWARE, ExitCode.UNAVAILABLE}, worker.output()
    again = start_worker(pipeline)
    assert again.wait(timeout_seconds=15) == ExitCode.SOFTWARE, again.output()
    for ended in (worker, again):
        assert "A topic was recreated" in ended.output().splitlines()[-1]
    assert outcomes(pipeline) == ORDERS

    with pipeline.administer() as connection:
        connection.exec_driver_sql(KEEP_DECISIONS.replace("orders.created", ORDERS_CREATED.within(pipeline.namespace)))
    pipeline.admin.write_first_offsets(pipeline.topics)
    start_worker(pipeline)
    wait_for(lambda: outcomes(pipeline) == 2 * ORDERS, what="the outcomes of the new topic's orders")
    assert pipeline.available() == {"tea": 1000 - 2 * ORDERS * UNITS}
    with pipeline.administer() as connection:
        decided = connection.exec_driver_sql("SELECT count(*) FROM inventory.decision").scalar_one()
    assert decided == 2 * ORDERS


def test_worker_overtaken_by_retention_ends_and_does_not_jump(pipeline: Pipeline) -> None:
    """H44: a silent jump to the earliest or the latest record would lose orders.

    Fault: records behind the committed offset are deleted while no worker runs, more than it had answered. Must hold:
    the worker ends and says what is gone; the committed offset stays for a person to judge.
    """
    worker = start_worker(pipeline).wait_ready()
    load(pipeline)
    wait_for(lambda: outcomes(pipeline) == ORDERS, what="the outcomes")
    assert worker.stop() == 0
    load(pipeline)
    delete_records(pipeline, below=ORDERS + ORDERS // 2)

    late = start_worker(pipeline)
    assert late.wait(timeout_seconds=20) == ExitCode.UNAVAILABLE, late.output()
    assert "the committed offset is gone" in late.output().splitlines()[-1]
    assert outcomes(pipeline) == ORDERS
    assert [point.offset for point in pipeline.admin.committed(INVENTORY).values()] == [ORDERS]


def delete_records(pipeline: Pipeline, *, below: int) -> None:
    admin = AdminClient({"bootstrap.servers": pipeline.kafka.kafka_bootstrap})
    partition = TopicPartition(ORDERS_CREATED.within(pipeline.namespace), 0, below)
    (deleted,) = admin.delete_records([partition]).values()
    deleted.result(10)
