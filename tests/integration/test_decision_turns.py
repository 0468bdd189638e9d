"""What customers hold, and the turns by which no two decisions of a customer rest on the same history."""

import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
import structlog

from common.postgres.hot import hot_connection
from inventory_service.core.rule import Holding
from inventory_service.core.turns import Turn
from inventory_service.io import decision_store
from inventory_service.io.decision_store import NewDecision
from onceloop.postgres import retry
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import rerun
from tests.books import Books, new_decision, open_books, record, some_id, some_sku
from tests.stack import Stack

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "change-the-allocation-rule.md"


@pytest.fixture(scope="module")
def books(servers: Stack) -> Iterator[Books]:
    """One database for this module: its tests name customers and SKUs of their own."""
    with open_books(servers) as books:
        yield books


@pytest.fixture
def connection(books: Books) -> Iterator[HotConnection]:
    with hot_connection(
        books.postgres("inventory_rw"),
        application="inventory-test",
    ) as connection:
        yield connection


def numbered(user_id: str, number: int, *, lines: Mapping[str, int], reason: str | None = None) -> NewDecision:
    return new_decision(lines=lines, reason=reason, turn=Turn(user_id, number))


def history(connection: HotConnection, *user_ids: str) -> tuple[Mapping[Holding, int], Mapping[str, int]]:
    found = decision_store.read(connection.get(), skus=(), order_ids=(), user_ids=user_ids)
    return found.held, found.turns


def test_what_customers_hold_is_the_sum_of_their_reservations__failed_orders_count_as_turns(
    connection: HotConnection,
) -> None:
    ada, bob, eve = f"ada, {some_id()}", f"bob\\{some_id()}", f"eve {some_id()}"
    record(
        connection.get(),
        [
            numbered(ada, 1, lines={"tea": 2, "mug": 1}),
            numbered(ada, 2, lines={"tea": 3}),
            numbered(ada, 3, lines={"pot": 9}, reason="other"),
            numbered(bob, 1, lines={"tea": 7}, reason="insufficient_stock"),
        ],
    )
    held = {Holding(ada, "tea"): 5, Holding(ada, "mug"): 1}
    assert history(connection, ada, bob, eve) == (held, {ada: 3, bob: 1})
    assert history(connection, eve) == ({}, {})


def test_decision_of_a_rule_that_does_not_ask_names_no_customer(books: Books, connection: HotConnection) -> None:
    plain, asked = new_decision(), numbered(some_id(), 1, lines={"tea": 1})
    record(connection.get(), [plain])
    record(connection.get(), [asked])
    rows = [books.decision(each.decision.order_id) for each in (plain, asked)]
    assert [(row.user_id, row.turn) for row in rows] == [(None, None), asked.turn]


def test_statement_of_the_guide_lets_earlier_decisions_count(books: Books, connection: HotConnection) -> None:
    """The one in docs/howto/change-the-allocation-rule.md: rows of a rule that did not ask get their customers."""
    ada, before, failed = some_id(), new_decision(lines={"tea": 2}), new_decision(lines={"tea": 4}, reason="other")
    record(connection.get(), [before, failed])
    record(connection.get(), [numbered(ada, 1, lines={"tea": 1})])
    for each, status in ((before, "reserved"), (failed, "failed")):
        books.execute(
            "INSERT INTO orders.order_status (order_id, user_id, status, reason, sku, requested, available, lines,"
            " placed_at, decided_at) SELECT :id, :user, :status, d.reason, d.skus[1], 1, 0, '[]', now(), now()"
            " FROM inventory.decision AS d WHERE order_id = :id",
            id=each.decision.order_id,
            user=ada,
            status=status,
        )
    (statement,) = re.findall(r"```sql\n(.+?);\n```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    books.execute(statement)
    assert history(connection, ada) == ({Holding(ada, "tea"): 3}, {ada: 1})


def test_decision_that_rests_on_an_older_history_undoes_the_whole_batch(
    books: Books, connection: HotConnection
) -> None:
    ada, tea = some_id(), some_sku()
    books.set_stock({tea: 10})
    record(connection.get(), [numbered(ada, 1, lines={tea: 2})], taken={tea: 2})
    other = numbered(some_id(), 1, lines={tea: 1})
    with pytest.raises(psycopg.errors.UniqueViolation) as violated:
        record(connection.get(), [other, numbered(ada, 1, lines={tea: 3})], taken={tea: 4})
    connection.recover()
    assert retry.classify(violated.value, decision_store.GUARDS) is retry.Failure.GUARD
    assert books.available(tea) == {tea: 8}
    assert books.decision(other.decision.order_id) is None
    assert history(connection, ada) == ({Holding(ada, tea): 2}, {ada: 1})


def test_workers_that_decide_orders_of_the_same_customers_never_deadlock(
    books: Books, connection: HotConnection
) -> None:
    """Aim: rows by ascending customer and turn. Two batches hold both customers, each first in one of them."""
    ada, bob = sorted([some_id(), some_id()])
    rounds, start = 25, threading.Barrier(2)

    def work(first: str, second: str) -> None:
        with hot_connection(
            books.postgres("inventory_rw"),
            application="inventory-test",
        ) as own:
            for _ in range(rounds):
                start.wait(20)
                rerun(partial(decide_both, first, second), own, guards=decision_store.GUARDS)

    with structlog.testing.capture_logs() as logs, ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, *pair) for pair in ((ada, bob), (bob, ada))]:
            done.result(60)
    assert history(connection, ada, bob)[1] == {ada: 2 * rounds, bob: 2 * rounds}
    assert {line["failure"] for line in logs} == {"guard"}


def decide_both(first: str, second: str, session: psycopg.Connection) -> None:
    turns = decision_store.read(session, skus=(), order_ids=(), user_ids=(first, second)).turns
    record(session, [numbered(user, turns.get(user, 0) + 1, lines={"tea": 1}) for user in (first, second)])
