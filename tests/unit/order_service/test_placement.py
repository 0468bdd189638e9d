"""What `place_order` decides."""

import pytest

from common.events.orders import OrderCreated, OrderLine
from order_service.core.placement import PlaceOrder, place_order

ORDER_ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"


def test_order_keeps_the_lines_in_the_customers_sequence() -> None:
    lines = (OrderLine("tea", 2), OrderLine("mug", 1))
    placed = place_order(PlaceOrder("ada", lines), order_id=ORDER_ID, placed_at_ms=1)
    assert placed == OrderCreated(ORDER_ID, "ada", lines, 1)


def test_an_impossible_order_never_becomes_an_event() -> None:
    with pytest.raises(AssertionError, match="lines"):
        place_order(PlaceOrder("ada", ()), order_id=ORDER_ID, placed_at_ms=1)
