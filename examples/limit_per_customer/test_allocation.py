"""Who gets stock: no customer more than LIMIT units of a SKU, whatever they order, and never more than there is."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from common.events.inventory import Reason
from common.events.orders import OrderLine
from inventory_service.core.allocation import allocate
from inventory_service.core.rule import Context, Failed, Holding, Reserved
from tests.demands import BATCHES, SKUS, STOCKS, USERS, demands

LIMIT = 5
HOLDINGS = st.builds(Holding, st.sampled_from(USERS), st.sampled_from(SKUS))
HELD = st.dictionaries(HOLDINGS, st.integers(1, LIMIT))
NOTHING_HELD = Context()


def holdings(
    batch: list[list[tuple[str, int]]], stock: Mapping[str, int], before: Mapping[Holding, int]
) -> Counter[Holding]:
    """Return what customers hold once the batch is decided."""
    held = Counter(before)
    asked = demands(batch)
    for demand, outcome in zip(asked, allocate(asked, stock, Context(before)).outcomes, strict=True):
        if isinstance(outcome, Reserved):
            held.update({Holding(demand.user_id, sku): quantity for sku, quantity in outcome.lines})
    return held


@given(BATCHES, STOCKS, HELD)
def test_no_customer_holds_more_than_the_limit(
    batch: list[list[tuple[str, int]]], stock: dict[str, int], held: dict[Holding, int]
) -> None:
    assert max(holdings(batch, stock, held).values(), default=0) <= LIMIT


@given(BATCHES, STOCKS, HELD, st.integers(0, 30))
def test_order_of_arrival_is_all_that_matters_not_how_it_is_cut_into_batches(
    batch: list[list[tuple[str, int]]], stock: dict[str, int], held: dict[Holding, int], cut: int
) -> None:
    whole, asked = allocate(demands(batch), stock, Context(held)), demands(batch)
    first = allocate(asked[:cut], stock, Context(held))
    left = {sku: units - first.taken.get(sku, 0) for sku, units in stock.items()}
    second = allocate(asked[cut:], left, Context(holdings(batch[:cut], stock, held)))
    assert [*first.outcomes, *second.outcomes] == whole.outcomes


def test_order_gets_what_the_limit_leaves() -> None:
    decided = allocate(demands([[("tea", LIMIT + 1), ("mug", 1)]]), {"tea": 100, "mug": 100}, NOTHING_HELD)
    assert decided.outcomes == [Reserved("order-0", (OrderLine("tea", LIMIT), OrderLine("mug", 1)))]
    assert decided.taken == {"tea": LIMIT, "mug": 1}


def test_order_gets_what_the_stock_leaves() -> None:
    decided = allocate(demands([[("tea", 2), ("ghost", 1), ("mug", 1)]]), {"tea": 1, "mug": 0}, NOTHING_HELD)
    assert decided.outcomes == [Reserved("order-0", (OrderLine("tea", 1),))]


def test_what_a_customer_holds_already_counts() -> None:
    context = Context({Holding("ada", "tea"): LIMIT - 1})
    decided = allocate(demands([[("tea", 3)], [("tea", 3)]]), {"tea": 100}, context)  # of ada, of bob
    assert decided.outcomes == [
        Reserved("order-0", (OrderLine("tea", 1),)),
        Reserved("order-1", (OrderLine("tea", 3),)),
    ]


def test_order_beyond_the_limit_fails_for_a_reason_that_is_not_stock() -> None:
    context = Context({Holding("ada", "tea"): LIMIT})
    decided = allocate(demands([[("tea", 1)]]), {"tea": 100}, context)
    assert decided.outcomes == [Failed("order-0", Reason.OTHER, "tea", 1, 0)]
    assert decided.taken == {}


def test_order_for_which_nothing_is_left_fails_for_lack_of_stock() -> None:
    decided = allocate(demands([[("tea", 1)], [("ghost", 1)]]), {"tea": 0}, NOTHING_HELD)
    assert decided.outcomes == [
        Failed("order-0", Reason.INSUFFICIENT_STOCK, "tea", 1, 0),
        Failed("order-1", Reason.UNKNOWN_SKU, "ghost", 1, 0),
    ]
