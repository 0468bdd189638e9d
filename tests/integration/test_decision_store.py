"""The two trips to PostgreSQL: what is recorded, and what guards it."""

import threading
from collections.abc import Iterator, Mapping

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.events.orders import SKU_LENGTH_MAX, text_complaint
from common.postgres.hot import hot_connection
from inventory_service.core.replay import Coordinate, Decision
from inventory_service.io import decision_store
from inventory_service.io.decision_store import Snapshot
from onceloop.postgres import retry
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import rerun
from onceloop.records import Partition
from tests.books import NOW_MS, Books, new_decision, open_books, record, some_id, some_sku
from tests.stack import Stack


@pytest.fixture(scope="module")
def books(servers: Stack) -> Iterator[Books]:
    """One database for this module: its tests name orders and SKUs of their own."""
    with open_books(servers) as books:
        yield books


@pytest.fixture
def connection(books: Books) -> Iterator[HotConnection]:
    with hot_connection(books.postgres("inventory_rw"), application="inventory-test") as connection:
        yield connection


def known(connection: HotConnection, *order_ids: str) -> Mapping[str, Decision]:
    return decision_store.read(connection.get(), skus=(), order_ids=order_ids).known


# --- what is written is read ------------------------------------------------------------------------------------------


def test_decision_is_read_back_as_it_was_recorded(connection: HotConnection) -> None:
    new = [new_decision(), new_decision(reason="unknown_sku"), new_decision(reason="insufficient_stock")]
    record(connection.get(), new)
    assert known(connection, *(each.decision.order_id for each in new)) == {
        each.decision.order_id: each.decision for each in new
    }


def test_stock_of_the_skus_asked_for_is_read__unknown_ones_are_left_out(
    books: Books, connection: HotConnection
) -> None:
    full, empty, unknown = some_sku(), some_sku(), some_sku()
    books.set_stock({full: 7, empty: 0})
    found = decision_store.read(connection.get(), skus={full, empty, unknown}, order_ids=())
    assert found == Snapshot(available={full: 7, empty: 0}, known={})


def test_nothing_asked_for_is_nothing_read(connection: HotConnection) -> None:
    assert decision_store.read(connection.get(), skus=(), order_ids=()) == Snapshot(available={}, known={})


def test_stock_is_taken_with_the_decisions_that_take_it(books: Books, connection: HotConnection) -> None:
    tea, mug = some_sku(), some_sku()
    books.set_stock({tea: 10, mug: 3})
    record(connection.get(), [new_decision(lines={tea: 4, mug: 3})], taken={tea: 4, mug: 3})
    assert books.available(tea, mug) == {tea: 6, mug: 0}


def test_row_holds_verdict_reason_lines_and_owner(books: Books, connection: HotConnection) -> None:
    tea, mug = some_sku(), some_sku()
    kept, failed = new_decision(lines={tea: 4, mug: 1}), new_decision(lines={mug: 9}, reason="insufficient_stock")
    record(connection.get(), [failed, kept])
    found = books.decision(kept.decision.order_id)
    assert (found.verdict, found.reason, found.skus, found.qtys) == (1, None, [tea, mug], [4, 1])
    assert (found.topic, found.partition, found.offset, found.replays) == ("orders.created", 3, 41, 0)
    found = books.decision(failed.decision.order_id)
    assert (found.verdict, found.reason, found.skus, found.qtys) == (0, "insufficient_stock", [mug], [9])


def test_each_row_of_a_large_batch_keeps_its_own_values(connection: HotConnection) -> None:
    new = [
        new_decision(
            lines={f"sku-{number}-{line}": line + 1 for line in range(number % 7 + 1)},
            reason=[None, "unknown_sku", "insufficient_stock"][number % 3],
            event=bytes([number % 256]) * (number % 50),
            owner=Coordinate(Partition("blue.orders.created", number % 8), number * 10**9),
            decided_at_ms=NOW_MS + number,
        )
        for number in range(1000)
    ]
    record(connection.get(), new)
    assert known(connection, *(each.decision.order_id for each in new)) == {
        each.decision.order_id: each.decision for each in new
    }


TRICKY_SKUS = [
    'quote"d',
    "apo'strophe",
    "back\\slash",
    "\\",
    '\\"',
    "com,ma",
    "{braces}",
    "{",
    "}",
    '"',
    ",",
    " ",
    " padded ",
    "NULL",
    "null",
    "%b",
    "%s%%",
    "$1",
    ";--",
    "E'\\x1f'",
    "ünïcödé",
    "壺",
    "🫖",
    "e\u0301",
    "s" * SKU_LENGTH_MAX,
    "壺" * SKU_LENGTH_MAX,
]


@pytest.mark.parametrize("sku", TRICKY_SKUS, ids=lambda sku: ascii(sku[:12]))
def test_sku_of_any_spelling_is_read_recorded_and_taken(books: Books, connection: HotConnection, sku: str) -> None:
    beside = some_sku()
    books.set_stock({sku: 10, beside: 10})
    assert decision_store.read(connection.get(), skus={sku, beside}, order_ids=()).available == {sku: 10, beside: 10}
    new = new_decision(lines={sku: 4, beside: 1})
    record(connection.get(), [new], taken={sku: 4, beside: 1})
    assert books.decision(new.decision.order_id).skus == [sku, beside]
    assert books.available(sku) == {sku: 6}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=SKU_LENGTH_MAX).filter(
            lambda text: not text_complaint(text, length_max=SKU_LENGTH_MAX)
        ),
        st.integers(1, 10_000),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 253_402_300_799_999),
)
def test_whatever_passes_validation_can_be_recorded_and_comes_back_equal(
    books: Books, connection: HotConnection, lines: dict[str, int], decided_at_ms: int
) -> None:
    books.set_stock(dict.fromkeys(lines, 10_000))
    new = new_decision(lines=lines, decided_at_ms=decided_at_ms)
    record(connection.get(), [new], taken=lines)
    found = books.decision(new.decision.order_id)
    assert dict(zip(found.skus, found.qtys, strict=True)) == lines
    assert known(connection, new.decision.order_id) == {new.decision.order_id: new.decision}
    left = decision_store.read(connection.get(), skus=lines.keys(), order_ids=()).available
    assert left == {sku: 10_000 - quantity for sku, quantity in lines.items()}


# --- replays ----------------------------------------------------------------------------------------------------------


def test_replays_are_counted_once_per_batch__also_when_nothing_is_new(books: Books, connection: HotConnection) -> None:
    old, other = new_decision(), new_decision()
    record(connection.get(), [old, other])
    record(connection.get(), replayed=[old.decision.order_id])
    record(connection.get(), [new_decision()], replayed=[old.decision.order_id])
    assert books.decision(old.decision.order_id).replays == 2
    assert books.decision(other.decision.order_id).replays == 0


def test_batch_of_replays_alone_writes__so_that_its_commit_waits_for_the_standby(
    books: Books, connection: HotConnection
) -> None:
    old = new_decision()
    record(connection.get(), [old])
    version = "SELECT xmin::text FROM inventory.decision WHERE order_id = :id"
    before = books.execute(version, id=old.decision.order_id).scalar_one()
    record(connection.get(), replayed=[old.decision.order_id])
    assert books.execute(version, id=old.decision.order_id).scalar_one() != before


# --- guards -----------------------------------------------------------------------------------------------------------


def test_order_that_was_decided_meanwhile_undoes_the_whole_batch__stock_included(
    books: Books, connection: HotConnection
) -> None:
    tea = some_sku()
    books.set_stock({tea: 10})
    first, fresh = new_decision(), new_decision()
    record(connection.get(), [first])
    again = new_decision(order_id=first.decision.order_id, lines={tea: 2})
    with pytest.raises(psycopg.errors.UniqueViolation) as violated:
        record(connection.get(), [fresh, again], taken={tea: 3})
    connection.recover()
    assert retry.classify(violated.value, decision_store.GUARDS) is retry.Failure.GUARD
    assert books.available(tea) == {tea: 10}
    assert books.decision(fresh.decision.order_id) is None
    assert known(connection, first.decision.order_id)[first.decision.order_id].event_id == first.decision.event_id


def test_stock_that_was_taken_meanwhile_undoes_the_whole_batch__decisions_included(
    books: Books, connection: HotConnection
) -> None:
    tea, mug = some_sku(), some_sku()
    books.set_stock({tea: 1, mug: 5})
    new, old = new_decision(), new_decision()
    record(connection.get(), [old])
    with pytest.raises(psycopg.errors.CheckViolation) as violated:
        record(connection.get(), [new], replayed=[old.decision.order_id], taken={mug: 1, tea: 2})
    connection.recover()
    assert retry.classify(violated.value, decision_store.GUARDS) is retry.Failure.GUARD
    assert books.available(tea, mug) == {tea: 1, mug: 5}
    assert books.decision(new.decision.order_id) is None
    assert books.decision(old.decision.order_id).replays == 0


def test_stock_row_that_is_gone_undoes_the_whole_batch(books: Books, connection: HotConnection) -> None:
    tea, gone = some_sku(), some_sku()
    books.set_stock({tea: 10})
    new = new_decision()
    with pytest.raises(psycopg.errors.DivisionByZero) as violated:
        record(connection.get(), [new], taken={tea: 1, gone: 1})
    connection.recover()
    assert retry.classify(violated.value, decision_store.GUARDS) is retry.Failure.GUARD
    assert books.available(tea) == {tea: 10}
    assert books.decision(new.decision.order_id) is None


def test_violation_on_a_connections_very_first_batch_is_survived_by_the_same_connection(
    books: Books, connection: HotConnection
) -> None:
    """Aim: statements whose preparation was queued behind the error and skipped are prepared again."""
    tea = some_sku()
    books.set_stock({tea: 10})
    first = new_decision()
    with hot_connection(books.postgres("inventory_rw"), application="other") as other:
        record(other.get(), [first])
    attempts = []

    def work(session: psycopg.Connection) -> None:
        attempts.append(session)
        rows = [new_decision(lines={tea: 1})] if len(attempts) > 1 else [new_decision(order_id=first.decision.order_id)]
        record(session, rows, replayed=[first.decision.order_id], taken={tea: 1})

    rerun(work, connection, guards=decision_store.GUARDS)
    assert len(attempts) == 2
    assert attempts[0] is attempts[1]
    assert books.available(tea) == {tea: 9}


def test_database_refuses_what_the_worker_must_never_write(connection: HotConnection) -> None:
    new = new_decision()
    record(connection.get(), [new])
    for statement in (
        "UPDATE inventory.decision SET verdict = 0",
        "UPDATE inventory.decision SET event = ''",
        "DELETE FROM inventory.decision",
        "UPDATE inventory.stock SET on_hand = 1",
        "DELETE FROM inventory.stock",
        "INSERT INTO inventory.stock VALUES ('x', 1, 1)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.get().execute(statement)


# --- lock order -------------------------------------------------------------------------------------------------------


def test_workers_with_crossed_orders_never_deadlock(books: Books) -> None:
    """Aim: one lock order on every path. Two sessions write the same orders and SKUs, named in opposite order."""
    skus = [some_sku() for _ in range(6)]
    books.set_stock(dict.fromkeys(skus, 1_000_000))
    rounds, failures = 200, list[Exception]()
    batches = [[some_id() for _ in range(4)] for _ in range(rounds)]
    replayed = [new_decision() for _ in range(6)]
    together = threading.Barrier(2)

    def work(*, backwards: bool) -> None:
        step = -1 if backwards else 1
        with hot_connection(books.postgres("inventory_rw"), application="crossed") as own:
            for ids in batches:
                together.wait(20)
                try:
                    record(
                        own.get(),
                        [new_decision(order_id=order_id) for order_id in ids[::step]],
                        replayed=[each.decision.order_id for each in replayed][::step],
                        taken=dict.fromkeys(skus[::step], 1),
                    )
                except psycopg.errors.UniqueViolation:
                    own.recover()
                except (psycopg.Error, threading.BrokenBarrierError) as error:
                    failures.append(error)
                    own.recover()

    with hot_connection(books.postgres("inventory_rw"), application="crossed") as own:
        record(own.get(), replayed)
    threads = [threading.Thread(target=work, kwargs={"backwards": backwards}) for backwards in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert set(books.available(*skus).values()) == {1_000_000 - rounds}  # one of the two wins each round


# --- plans ------------------------------------------------------------------------------------------------------------


def test_rows_are_found_by_index_although_the_table_was_empty_when_the_plans_were_made(servers: Stack) -> None:
    """An empty table that was vacuumed makes a sequential scan look free, and a prepared plan keeps it."""
    with (
        open_books(servers) as empty,
        hot_connection(empty.postgres("inventory_rw"), application="plans") as connection,
    ):
        empty.set_stock({"tea": 1})
        empty.execute("VACUUM ANALYZE inventory.decision, inventory.stock")
        session = connection.get()
        decision_store.read(session, skus={"tea"}, order_ids={some_id()})
        record(session, [new_decision()], replayed=[some_id()], taken={"tea": 1})
        rows = session.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%inventory._%'")
        plans = {statement: explain(session, statement) for (statement,) in rows.fetchall() if "pg_" not in statement}
    assert len(plans) == 6
    for statement, plan in plans.items():
        assert "Seq Scan" not in plan, plan
        assert "Index" in plan or "INSERT" in statement, plan


def explain(session: psycopg.Connection, statement: str) -> str:
    """Return the plan that serves any parameters."""
    found = session.execute(f"EXPLAIN (GENERIC_PLAN) {statement}", prepare=False).fetchall()
    return "\n".join(line for (line,) in found)
