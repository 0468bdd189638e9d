"""Who gets stock: all lines or none, in order of arrival, never below zero."""

from collections import Counter
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from common.events.inventory import Reason
from common.events.orders import OrderLine
from inventory_service.core import allocation
from inventory_service.core.rule import Allocation, Context, Demand, Failed, Reserved
from tests.demands import BATCHES, STOCKS, demands


def allocate(orders: Sequence[Demand], stock: Mapping[str, int]) -> Allocation:
    """Decide without a context: this rule asks for none."""
    return allocation.allocate(orders, stock, Context())


def reserved_lines(batch: Sequence[Demand], stock: Mapping[str, int]) -> list[OrderLine]:
    return [
        line for outcome in allocate(batch, stock).outcomes if isinstance(outcome, Reserved) for line in outcome.lines
    ]


@given(BATCHES, STOCKS)
def test_units_taken_are_the_lines_of_the_reserved_orders_and_nothing_else(
    batch: list[list[tuple[str, int]]], stock: dict[str, int]
) -> None:
    wanted: Counter[str] = Counter()
    for line in reserved_lines(demands(batch), stock):
        wanted[line.sku] += line.quantity
    assert dict(allocate(demands(batch), stock).taken) == dict(wanted)


@given(BATCHES, STOCKS)
def test_reserved_order_holds_all_of_its_lines(batch: list[list[tuple[str, int]]], stock: dict[str, int]) -> None:
    asked = {demand.order_id: demand.lines for demand in demands(batch)}
    for outcome in allocate(demands(batch), stock).outcomes:
        assert isinstance(outcome, Failed) or outcome.lines == asked[outcome.order_id]


@given(BATCHES, STOCKS)
def test_every_order_has_exactly_one_outcome_in_order_of_arrival(
    batch: list[list[tuple[str, int]]], stock: dict[str, int]
) -> None:
    arrived = demands(batch)
    assert [outcome.order_id for outcome in allocate(arrived, stock).outcomes] == [
        demand.order_id for demand in arrived
    ]


@given(BATCHES, STOCKS)
def test_order_fails_only_on_a_line_for_which_earlier_orders_left_too_little(
    batch: list[list[tuple[str, int]]], stock: dict[str, int]
) -> None:
    arrived = demands(batch)
    for index, outcome in enumerate(allocate(arrived, stock).outcomes):
        before = allocate(arrived[:index], stock).taken
        left = {sku: units - before.get(sku, 0) for sku, units in stock.items()}
        lines = {line.sku: line.quantity for line in arrived[index].lines}
        match outcome:
            case Reserved():
                assert all(left[sku] >= quantity for sku, quantity in lines.items())
            case Failed(reason=Reason.UNKNOWN_SKU):
                assert outcome.sku not in stock
                assert (outcome.requested, outcome.available) == (lines[outcome.sku], 0)
            case Failed():
                assert (outcome.requested, outcome.available) == (lines[outcome.sku], left[outcome.sku])
                assert outcome.available < outcome.requested


@given(BATCHES, STOCKS)
def test_failed_order_names_the_first_of_its_lines_that_lacks(
    batch: list[list[tuple[str, int]]], stock: dict[str, int]
) -> None:
    arrived = demands(batch)
    for index, outcome in enumerate(allocate(arrived, stock).outcomes):
        if isinstance(outcome, Failed):
            held = arrived[:index]
            lines = arrived[index].lines
            position = [line.sku for line in lines].index(outcome.sku)
            shortened = arrived[index]._replace(lines=lines[:position])
            assert allocate([*held, shortened], stock).outcomes[-1] == Reserved(shortened.order_id, lines[:position])


@given(BATCHES, STOCKS, st.integers(0, 30))
def test_order_of_arrival_is_all_that_matters_not_how_it_is_cut_into_batches(
    batch: list[list[tuple[str, int]]], stock: dict[str, int], cut: int
) -> None:
    arrived = demands(batch)
    first = allocate(arrived[:cut], stock)
    second = allocate(arrived[cut:], {sku: units - first.taken.get(sku, 0) for sku, units in stock.items()})
    assert [*first.outcomes, *second.outcomes] == allocate(arrived, stock).outcomes


def test_order_fails_whole_when_one_line_lacks_stock() -> None:
    decided = allocate(demands([[("tea", 2), ("mug", 5)]]), {"tea": 10, "mug": 4})
    assert decided.outcomes == [Failed("order-0", Reason.INSUFFICIENT_STOCK, "mug", 5, 4)]
    assert decided.taken == {}


def test_what_a_failed_order_wanted_is_there_for_the_next_one() -> None:
    decided = allocate(demands([[("tea", 3), ("mug", 9)], [("tea", 3)]]), {"tea": 3, "mug": 1})
    assert [type(outcome) for outcome in decided.outcomes] == [Failed, Reserved]


def test_last_unit_goes_to_the_order_that_came_first() -> None:
    decided = allocate(demands([[("tea", 1)], [("tea", 1)]]), {"tea": 1})
    assert decided.outcomes == [
        Reserved("order-0", (OrderLine("tea", 1),)),
        Failed("order-1", Reason.INSUFFICIENT_STOCK, "tea", 1, 0),
    ]


def test_sku_without_a_stock_row_is_unknown__not_empty() -> None:
    decided = allocate(demands([[("ghost", 1)], [("tea", 1)]]), {"tea": 0})
    assert decided.outcomes == [
        Failed("order-0", Reason.UNKNOWN_SKU, "ghost", 1, 0),
        Failed("order-1", Reason.INSUFFICIENT_STOCK, "tea", 1, 0),
    ]


def test_nothing_wanted_takes_nothing() -> None:
    assert allocate([], {"tea": 1}).outcomes == []
    assert allocate([], {"tea": 1}).taken == {}
