"""PostgreSQL is restored from a backup that is older than the topics: nothing is decided on it before it is rebuilt."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED
from tests.api import start_projection
from tests.factories import make_order
from tests.groups import committed
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write_orders
from tests.restores import Backup, progress

ORDERS = 20


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=2)
    pipeline.set_stock({"tea": 1000})
    return pipeline


def start_worker(pipeline: Pipeline, slot: int = 0) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw", slot=slot).wait_ready()


def load(pipeline: Pipeline, partition: int) -> None:
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)], partition=partition)


def outcomes(pipeline: Pipeline) -> int:
    return len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))


def answered(pipeline: Pipeline, orders: int) -> None:
    wait_for(lambda: outcomes(pipeline) == orders, what=f"{orders} outcomes")
    wait_for(lambda: progress(pipeline) == committed(pipeline, INVENTORY), what="the progress")


def work_until_backed_up(pipeline: Pipeline) -> Backup:
    """Answer orders on both partitions, then back the database up."""
    worker = start_worker(pipeline)
    for partition in (0, 1):
        load(pipeline, partition)
    answered(pipeline, 2 * ORDERS)
    worker.stop()
    return Backup(pipeline)


def test_database_restored_under_a_worker_decides_nothing(pipeline: Pipeline) -> None:
    """Aim: G1, G2. Fault: decisions, and the stock they hold, are gone while their events are visible.

    Must hold: the batch that comes next is not decided on the old stock; the worker says from where on orders lack
    their decisions.
    """
    backup = work_until_backed_up(pipeline)
    left = pipeline.available()
    worker = start_worker(pipeline)
    load(pipeline, 0)
    answered(pipeline, 3 * ORDERS)

    backup.restore()
    load(pipeline, 0)
    wait_for(lambda: "have no decision" in worker.output(), what="a word about the decisions")
    assert f"stands at {2 * ORDERS}, but {ORDERS} records from {ORDERS} on have no decision" in worker.output()
    assert outcomes(pipeline) == 3 * ORDERS
    assert pipeline.available() == left, "nothing is taken from the restored stock"


def test_database_restored_while_all_are_down_stops_every_worker(pipeline: Pipeline) -> None:
    """Aim: as above. Only partition 0 lost decisions; the worker of partition 1 would sell their stock again."""
    backup = work_until_backed_up(pipeline)
    worker = start_worker(pipeline)
    load(pipeline, 0)
    answered(pipeline, 3 * ORDERS)
    worker.stop()

    backup.restore()
    workers = [start_worker(pipeline, slot) for slot in (0, 1)]
    load(pipeline, 0)
    load(pipeline, 1)
    for each in workers:
        wait_for(lambda each=each: "have no decision" in each.output(), what="a word about the decisions")  # type: ignore[misc]
    assert outcomes(pipeline) == 3 * ORDERS


def test_projection_reads_again_what_the_restored_tables_lack(pipeline: Pipeline) -> None:
    """Aim: S17. Fault: the tables under a running projection are those of before; so is its stored position.

    Must hold: the orders between are projected again; without a new order they go unnoticed.
    """
    start_projection(pipeline).wait_ready()
    load(pipeline, 0)
    wait_for(lambda: projected(pipeline) == ORDERS, what="the first orders")
    with pipeline.administer() as connection:
        connection.exec_driver_sql("CREATE TABLE backup AS TABLE orders.projection_offset")
    load(pipeline, 0)
    wait_for(lambda: projected(pipeline) == 2 * ORDERS, what="all orders")

    with pipeline.administer() as connection:  # one transaction, as one restore: no reader sees a part of it
        connection.exec_driver_sql(
            "BEGIN; LOCK TABLE orders.order_status, orders.projection_offset IN ACCESS EXCLUSIVE MODE;"
            " TRUNCATE orders.order_status, orders.projection_offset;"
            " INSERT INTO orders.projection_offset TABLE backup; COMMIT"
        )
    load(pipeline, 0)
    wait_for(lambda: projected(pipeline) == 2 * ORDERS, what="all orders since the backup")


def projected(pipeline: Pipeline) -> int:
    with pipeline.connect("reader") as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM orders.order_status")).scalar_one())


def test_server_that_only_restarts_is_believed_at_once(pipeline: Pipeline) -> None:
    """Aim: a new connection alone costs no pause: what is noted is what is committed."""
    work_until_backed_up(pipeline)
    worker = start_worker(pipeline)
    for round_number in range(1, 4):
        with pipeline.administer() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'inventory_rw'"
                " AND datname = current_database()"
            )
        load(pipeline, 1)
        answered(pipeline, (2 + round_number) * ORDERS)
    assert "have no decision" not in worker.output()
    assert worker.exit_code is None
