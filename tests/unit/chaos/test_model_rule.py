"""A rule that asks what customers hold, on the model: no interleaving lets two workers pass the limit together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from chaos.model import Exploration, explore
from chaos.model import world as worlds
from chaos.model.scenario import CUSTOMERS, Input, Kind, Scenario, _order
from chaos.model.tables import Duplicate, Tables
from common.topics import ORDERS_CREATED
from inventory_service.core.turns import Turn
from onceloop.records import Partition
from tests.examples import limit_per_customer

INTERLEAVINGS = 400
LIMIT = 5
USERS = [f"user-{number}" for number in range(CUSTOMERS)]


def one_customer(scenario: Scenario) -> Scenario:
    """Leave it at two workers and six orders of one customer, in turns on their partitions, with stock for all."""
    partitions = tuple(Partition(ORDERS_CREATED.name, number) for number in range(2))
    orders = [_order(CUSTOMERS * number, (("tea", 1 + number % 3),)) for number in range(6)]
    inputs = tuple(Input(partitions[at % 2], Kind.ORDER, *order) for at, order in enumerate(orders))
    return replace(scenario, inputs=inputs, partitions=partitions, slots=2, on_hand={"tea": 50})


@contextmanager
def limit_in_force() -> Iterator[None]:
    """Run the rule of the example, and take a customer who holds more than the limit for stock out of balance."""
    balance = Tables._balance

    def watch(tables: Tables) -> None:
        balance(tables)
        held, _ = tables.history(USERS)
        if max(held.values(), default=0) > LIMIT and not tables.unbalanced:
            tables.unbalanced = f"more than {LIMIT} are held: {held}"

    with patch.object(worlds, "allocation", limit_per_customer()), patch.object(Tables, "_balance", watch):
        yield


@pytest.fixture(scope="module")
def explored() -> Exploration:
    with limit_in_force():
        return explore(1, INTERLEAVINGS)


def test_no_interleaving_lets_a_customer_pass_the_limit(explored: Exploration) -> None:
    assert explored.failed is None, explored.failed and explored.failed.story()
    assert explored.missing == ()


def test_exploration_refuses_customers_and_meets_turns_that_are_taken__or_it_would_be_void() -> None:
    taken = []
    refuse = Duplicate.__init__

    def note(error: Duplicate, constraint: str) -> None:
        taken.append(constraint)
        refuse(error, constraint)

    with limit_in_force(), patch.object(Duplicate, "__init__", note):
        explored = explore(1, INTERLEAVINGS, narrow=one_customer)
    assert explored.failed is None, explored.failed and explored.failed.story()
    assert explored.counts["inventory_decisions: failed, other"] > 0
    assert "decision_turn" in taken


def test_limit_is_passed_where_no_turn_is_ever_taken() -> None:
    """The guard is what holds: without it the same exploration finds a customer beyond the limit."""
    numbers = iter(range(10**6))

    def unguarded(arrivals: list[object], _highest: object) -> list[Turn]:
        return [Turn(arrival.order.user_id, next(numbers)) for arrival in arrivals]  # type: ignore[attr-defined]

    with limit_in_force(), patch("inventory_service.io.ruling.next_turns", unguarded):
        found = explore(1, INTERLEAVINGS, narrow=one_customer)
    assert found.failed is not None
    assert {violation.rule for violation in found.failed.violations} == {"S6"}
