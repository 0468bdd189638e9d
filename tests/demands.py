"""Demands and stock for tests of a rule: small numbers, so that everything collides."""

from collections.abc import Sequence

from hypothesis import strategies as st

from common.events.orders import OrderLine
from inventory_service.core.rule import Demand

SKUS = ("tea", "mug", "pot", "jar")
USERS = ("ada", "bob")
PLACED_AT_MS = 1_800_000_000_000
LINES = st.lists(
    st.tuples(st.sampled_from([*SKUS, "ghost"]), st.integers(1, 6)),
    min_size=1,
    max_size=4,
    unique_by=lambda line: line[0],
)
BATCHES = st.lists(LINES, max_size=30)
STOCKS = st.dictionaries(st.sampled_from(SKUS), st.integers(0, 25))


def demands(batch: Sequence[Sequence[tuple[str, int]]]) -> list[Demand]:
    """Return one demand per group of lines: order-0 of ada, order-1 of bob, order-2 of ada."""
    return [
        Demand(
            f"order-{number}",
            USERS[number % len(USERS)],
            tuple(OrderLine(sku, quantity) for sku, quantity in lines),
            PLACED_AT_MS + number,
        )
        for number, lines in enumerate(batch)
    ]
