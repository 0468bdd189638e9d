"""What holds of every rule, the one that is in force included, and how an answer that breaks it is found."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events.inventory import Reason
from common.events.orders import OrderLine
from inventory_service.core import allocation
from inventory_service.core.rule import Allocation, Context, Failed, Holding, Outcome, Reserved, check
from onceloop.errors import ContractError
from tests.demands import BATCHES, STOCKS, USERS, demands

HELD = st.dictionaries(st.builds(Holding, st.sampled_from(USERS), st.sampled_from(["tea", "mug"])), st.integers(1, 30))
TEA_AND_MUG = demands([[("tea", 2), ("mug", 5)]])
FAILED = Failed("order-0", Reason.OTHER, "tea", 2, 0)


@given(BATCHES, STOCKS, HELD)
def test_rule_in_force_keeps_the_contract(
    batch: list[list[tuple[str, int]]], stock: dict[str, int], held: dict[Holding, int]
) -> None:
    decided = allocation.allocate(demands(batch), stock, Context(held))
    check(demands(batch), decided)


@given(BATCHES, STOCKS, HELD)
def test_available_stock_never_falls_below_zero(
    batch: list[list[tuple[str, int]]], stock: dict[str, int], held: dict[Holding, int]
) -> None:
    taken = allocation.allocate(demands(batch), stock, Context(held)).taken
    assert all(stock[sku] >= units for sku, units in taken.items())


@given(BATCHES, STOCKS, HELD)
def test_same_orders_on_the_same_stock_and_history_give_the_same_answer(
    batch: list[list[tuple[str, int]]], stock: dict[str, int], held: dict[Holding, int]
) -> None:
    before = dict(stock), dict(held)
    first, second = (allocation.allocate(demands(batch), stock, Context(held)) for _ in range(2))
    assert (list(first.outcomes), dict(first.taken)) == (list(second.outcomes), dict(second.taken))
    assert (stock, held) == before


def reserved(*lines: tuple[str, int], order_id: str = "order-0") -> Reserved:
    return Reserved(order_id, tuple(OrderLine(*line) for line in lines))


@pytest.mark.parametrize(
    ("outcome", "taken"),
    [
        (reserved(("tea", 2), ("mug", 5)), {"tea": 2, "mug": 5}),
        (reserved(("mug", 5), ("tea", 2)), {"tea": 2, "mug": 5}),
        (reserved(("tea", 1)), {"tea": 1}),
        (FAILED, {}),
    ],
    ids=["all of it", "in another order", "a part of one line", "nothing"],
)
def test_order_is_held_whole_or_in_part_or_fails(outcome: Outcome, taken: Mapping[str, int]) -> None:
    check(TEA_AND_MUG, Allocation((outcome,), taken))


@pytest.mark.parametrize(
    ("outcomes", "taken", "fault"),
    [
        ((), {}, "0 outcomes for 1 orders"),
        ((FAILED, FAILED), {}, "2 outcomes for 1 orders"),
        ((FAILED._replace(order_id="another"),), {}, "the outcome of order order-0 names another"),
        ((reserved(("tea", 1), order_id="another"),), {"tea": 1}, "the outcome of order order-0 names another"),
        ((reserved(),), {}, "reserved without a line"),
        ((reserved(("tea", 1), ("tea", 1)),), {"tea": 2}, "holds a SKU on two lines"),
        ((reserved(("tea", 3)),), {"tea": 3}, "holds 3 of tea, it asked for 2"),
        ((reserved(("tea", 0)),), {"tea": 0}, "holds 0 of tea, it asked for 2"),
        ((reserved(("pot", 1)),), {"pot": 1}, "holds 1 of pot, it asked for 0"),
        ((reserved(("tea", 2)),), {"tea": 1}, "{'tea': 1} are taken, but {'tea': 2} are held"),
        ((reserved(("tea", 2)),), {"tea": 2, "mug": 1}, "{'tea': 2, 'mug': 1} are taken, but {'tea': 2} are held"),
    ],
)
def test_answer_that_no_order_may_get_is_refused(
    outcomes: tuple[Outcome, ...], taken: Mapping[str, int], fault: str
) -> None:
    with pytest.raises(ContractError) as refused:
        check(TEA_AND_MUG, Allocation(outcomes, taken))
    assert fault in refused.value.message
