"""Turn a customer's command into the event that says it was accepted. Pure.

Identity and time come from outside: a retry repeats the stored event, it never places another.
"""

from dataclasses import dataclass

from common.events.orders import OrderCreated, OrderLine


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """What a customer asks for; parsed and within the limits of `common.events.orders`."""

    user_id: str
    lines: tuple[OrderLine, ...]


def place_order(command: PlaceOrder, *, order_id: str, placed_at_ms: int) -> OrderCreated:
    """Return the event of a new order. `order_id`: a UUIDv7 in canonical text; `placed_at_ms`: epoch, UTC."""
    order = OrderCreated(order_id, command.user_id, command.lines, placed_at_ms)
    # Whatever passes here reaches the topic, and every reader refuses an impossible order for good.
    assert not (found := order.violation()), found  # noqa: S101 - the rim let something through: a broken programmer
    return order
