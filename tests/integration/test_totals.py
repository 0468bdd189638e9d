"""Totals of the tables: those of the rows, whatever is killed; written only by the trigger."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from chaos.run.plan import Action, Arm
from common.postgres.engine import create_engine
from common.postgres.hot import hot_connection
from deploy.exporter.tables import read_books
from deploy.local.stack.totals import Totals, read_totals
from tests.books import new_decision, record
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import wait_for, write_orders
from tests.system.workers import Workers, assert_sound

ORDERS = 60


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=2)
    pipeline.set_stock({"tea": 10_000})
    return pipeline


def totals(pipeline: Pipeline) -> Totals:
    settings = pipeline.postgres("reader")
    password = settings.postgres_password.get_secret_value()
    return read_totals(settings.postgres_url.replace("@", f":{password}@", 1))


@pytest.fixture
def engine(pipeline: Pipeline) -> Iterator[sa.Engine]:
    engine = create_engine(pipeline.postgres("reader"), application="test", pool_size=1, target="any")
    yield engine
    engine.dispose()


def test_totals_are_those_of_the_rows_by_verdict_and_reason(pipeline: Pipeline, engine: sa.Engine) -> None:
    assert totals(pipeline) == Totals(0, 0)
    for _ in range(3):  # each session counts in a shard of its own
        with hot_connection(pipeline.postgres("inventory_rw"), application="test") as hot:
            reserved = [new_decision() for _ in range(4)]
            record(hot.get(), reserved)
            record(hot.get(), [new_decision(reason="unknown_sku"), new_decision(reason="insufficient_stock")])
            record(hot.get(), replayed=[row.decision.order_id for row in reserved])
            with pytest.raises(psycopg.errors.UniqueViolation):
                record(hot.get(), [new_decision(), reserved[0]])
    assert totals(pipeline) == Totals(12, 6)
    assert read_books(engine).decided == {
        ("reserved", "none"): 12,
        ("failed", "unknown_sku"): 3,
        ("failed", "insufficient_stock"): 3,
    }


def test_worker_cannot_write_the_totals(pipeline: Pipeline) -> None:
    with pipeline.connect("inventory_rw") as connection, pytest.raises(sa.exc.ProgrammingError, match="denied"):
        connection.execute(sa.text("INSERT INTO inventory.decision_total VALUES (0, 1, 'none', 1)"))


def test_totals_stand_through_the_kill_of_a_worker(pipeline: Pipeline, tmp_path: Path) -> None:
    """Fault: SIGKILL between the decision and its Kafka transaction; the successor finds what is decided."""
    workers = Workers(pipeline, tmp_path)
    arm = Arm(point="inventory:flushed", action=Action.KILL, hit=2, flush=True)
    workers.arm(arm)
    killed = workers.start()
    write_orders(pipeline, [make_order(user_id=f"u{n}") for n in range(ORDERS)])
    assert killed.wait(timeout_seconds=20) == -9, killed.output()
    before = totals(pipeline)
    assert before.reserved
    workers.start()
    wait_for(lambda: totals(pipeline) == Totals(ORDERS, 0), what="all orders in the totals")
    assert_sound(pipeline, orders=ORDERS)
