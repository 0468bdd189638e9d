"""Restocking beside reservations: the books stay balanced, whichever comes first."""

import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy as sa

import migrations
from deploy.provision import demo, stock
from deploy.provision.stock import Balance, StockRefusedError
from onceloop.errors import ReportedError
from tests.pipeline import Pipeline
from tests.processes import wait_for

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
RESERVE = sa.text("UPDATE inventory.stock SET available = available - :quantity WHERE sku = :sku")
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def reserve(pipeline: Pipeline, sku: str, quantity: int) -> None:
    """Reserve as the worker does."""
    with pipeline.connect("inventory_rw") as connection, connection.begin():
        connection.execute(RESERVE, {"sku": sku, "quantity": quantity})


def compose_skus(pipeline: Pipeline) -> None:
    """Run the migration's statements as Alembic does, in one transaction."""
    migration = runpy.run_path(str(Path(migrations.__file__).parent / "versions" / "0008_compose_skus.py"))
    with pipeline.administer() as connection, connection.execution_options(isolation_level="READ COMMITTED").begin():
        for statement in migration["STATEMENTS"]:
            connection.exec_driver_sql(statement)


@contextmanager
def administered(pipeline: Pipeline) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection as the command has one."""
    with pipeline.connect("stock_admin") as connection:
        plain = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        plain.autocommit = True
        yield plain
        plain.autocommit = False


def test_set_keeps_what_is_reserved(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    reserve(pipeline, "tea", 4)
    with administered(pipeline) as connection:
        assert stock.set_on_hand(connection, "tea", 7) == Balance("tea", on_hand=7, reserved=4, available=3)
        assert stock.set_on_hand(connection, "tea", 4) == Balance("tea", on_hand=4, reserved=4, available=0)


def test_set_refuses_to_leave_less_on_hand_than_is_reserved(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    reserve(pipeline, "tea", 4)
    with administered(pipeline) as connection:
        with pytest.raises(StockRefusedError, match="tea: more is reserved"):
            stock.set_on_hand(connection, "tea", 3)
        assert stock.list_balances(connection) == [Balance("tea", on_hand=10, reserved=4, available=6)]


def test_set_creates_a_sku_and_add_does_not(pipeline: Pipeline) -> None:
    with administered(pipeline) as connection:
        with pytest.raises(StockRefusedError, match="no SKU tea"):
            stock.add(connection, "tea", 5)
        assert stock.set_on_hand(connection, "tea", 5) == Balance("tea", on_hand=5, reserved=0, available=5)
        assert stock.add(connection, "tea", 5) == Balance("tea", on_hand=10, reserved=0, available=10)


def test_add_takes_away_no_more_than_is_available(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    reserve(pipeline, "tea", 8)
    with administered(pipeline) as connection:
        with pytest.raises(StockRefusedError, match="tea: more is reserved"):
            stock.add(connection, "tea", -3)
        assert stock.add(connection, "tea", -2) == Balance("tea", on_hand=8, reserved=8, available=0)


@pytest.mark.parametrize(
    ("sku", "units"),
    [
        ("", 1),
        (" ", 1),
        ("tea ", 1),
        ("te\na", 1),
        ("te\u200ca", 1),
        ("te\u202ea", 1),
        ("te\udcffa", 1),
        ("x" * 65, 1),
        ("tea", -1),
        ("tea", 10**12),
    ],
)
def test_set_refuses_what_no_shelf_can_hold(pipeline: Pipeline, sku: str, units: int) -> None:
    with administered(pipeline) as connection, pytest.raises(StockRefusedError):
        stock.set_on_hand(connection, sku, units)


def test_two_spellings_of_a_sku_are_one_shelf(pipeline: Pipeline) -> None:
    with administered(pipeline) as connection:
        assert stock.set_on_hand(connection, DECOMPOSED, 5) == Balance(COMPOSED, on_hand=5, reserved=0, available=5)
        assert stock.add(connection, COMPOSED, 1) == Balance(COMPOSED, on_hand=6, reserved=0, available=6)
        assert stock.add(connection, DECOMPOSED, 1) == Balance(COMPOSED, on_hand=7, reserved=0, available=7)
        assert stock.set_on_hand(connection, PERSIAN, 1).sku == PERSIAN
    with pipeline.administer() as connection:
        assert demo.insert_missing(connection, {DECOMPOSED: 99}) == ()
    assert pipeline.available() == {COMPOSED: 7, PERSIAN: 1}


def test_units_under_a_name_that_is_refused_today_stay_in_reach(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea ": 10})
    with administered(pipeline) as connection:
        assert stock.add(connection, "tea ", -10).available == 0
        assert stock.set_on_hand(connection, "tea ", 0).on_hand == 0
        assert stock.set_on_hand(connection, "tea", 10).available == 10
        with pytest.raises(StockRefusedError, match="begins or ends with a space"):
            stock.add(connection, "mug ", 1)


def test_migration_moves_what_is_available_to_the_spelling_that_orders_name(pipeline: Pipeline) -> None:
    """What is reserved stays under the spelling that decisions and events name, so both rows stay balanced."""
    pipeline.set_stock({DECOMPOSED: 10, COMPOSED: 3, "tea": 5, "o\u0308l": 4, "e\u0301": 0})
    reserve(pipeline, DECOMPOSED, 4)
    reserve(pipeline, COMPOSED, 1)
    compose_skus(pipeline)
    compose_skus(pipeline)  # done again, it changes nothing
    with administered(pipeline) as connection:
        assert {balance.sku: balance for balance in stock.list_balances(connection)} == {
            balance.sku: balance
            for balance in (
                Balance(DECOMPOSED, on_hand=4, reserved=4, available=0),
                Balance(COMPOSED, on_hand=9, reserved=1, available=8),
                Balance("tea", on_hand=5, reserved=0, available=5),
                Balance("o\u0308l", on_hand=0, reserved=0, available=0),
                Balance("\u00f6l", on_hand=4, reserved=0, available=4),
                Balance("e\u0301", on_hand=0, reserved=0, available=0),
                Balance("\u00e9", on_hand=0, reserved=0, available=0),
            )
        }


def test_migration_waits_for_a_reservation_without_a_deadlock(pipeline: Pipeline) -> None:
    """Aim: nothing is moved that is being reserved. Fault: a worker has locked its rows, and reserves after the
    migration has begun. Must hold: the migration waits, the worker commits, and the rest is moved."""
    pipeline.set_stock({DECOMPOSED: 10})
    thread = threading.Thread(target=compose_skus, args=[pipeline])
    with pipeline.connect("inventory_rw") as worker, worker.begin():
        worker.execute(sa.text("SELECT 1 FROM inventory.stock WHERE sku = :sku FOR UPDATE"), {"sku": DECOMPOSED})
        thread.start()
        with pipeline.administer() as watch:
            wait_for(
                lambda: watch.exec_driver_sql(WAITING).scalar_one() > 0,
                timeout_seconds=5,
                what="the migration waits for the reservation",
            )
        worker.execute(RESERVE, {"sku": DECOMPOSED, "quantity": 4})
    thread.join(5)
    assert pipeline.available() == {DECOMPOSED: 0, COMPOSED: 6}


def test_a_restock_waits_for_the_reservation_that_holds_the_row(pipeline: Pipeline) -> None:
    """Aim: no lost update. Fault: a worker has reserved and not yet committed. Must hold: both changes count."""
    pipeline.set_stock({"tea": 10})
    changed: list[Balance] = []

    def restock() -> None:
        with administered(pipeline) as connection:
            changed.append(stock.set_on_hand(connection, "tea", 20))

    thread = threading.Thread(target=restock)
    with pipeline.connect("inventory_rw") as worker, worker.begin():
        worker.execute(RESERVE, {"sku": "tea", "quantity": 4})
        thread.start()
        with pipeline.administer() as watch:
            wait_for(
                lambda: watch.exec_driver_sql(WAITING).scalar_one() > 0,
                timeout_seconds=5,
                what="the restock waits for the row",
            )
    thread.join(5)
    assert changed == [Balance("tea", on_hand=20, reserved=4, available=16)]


def test_a_restock_gives_up_on_a_row_that_stays_locked(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    with pipeline.connect("inventory_rw") as worker, worker.begin():
        worker.execute(RESERVE, {"sku": "tea", "quantity": 4})
        with administered(pipeline) as connection, pytest.raises(ReportedError, match="did not let us"):
            stock.add(connection, "tea", 1)


def test_demo_stock_has_plenty_of_some_few_of_others_and_one_empty_shelf() -> None:
    shop = demo.demo_stock()
    assert len(shop) == 50
    assert min(shop["tea"], shop["mug"]) >= 1000
    assert list(shop.values()).count(0) == 1
    assert sum(1 for units in shop.values() if 3 <= units <= 5) == 5


def test_demo_stock_leaves_known_skus_alone(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    reserve(pipeline, "tea", 4)
    with pipeline.administer() as connection:
        assert demo.insert_missing(connection, {"tea": 99, "mug": 1}) == ("mug",)
        assert demo.insert_missing(connection, {"tea": 99, "mug": 1}) == ()
    assert pipeline.available() == {"tea": 6, "mug": 1}
