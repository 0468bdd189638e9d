"""What the customer is told: an outcome becomes a message, and the message a name that never changes. Pure.

The same outcome yields the same text and the same ids, on every attempt and on every machine: a repeated mail is
recognised by its Message-ID, a repeated `NotificationSent` by its event id.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind
from common.events.orders import OrderLine
from notification_service.core.outcomes import Outcome

_NO_STOCK = "Nothing is set aside and nothing was charged: we fill an order as a whole or not at all."


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a customer, in plain text, one paragraph per line."""

    kind: Kind
    subject: str
    text: str


def kind(outcome: Outcome) -> Kind:
    """Return what the customer is told by this outcome."""
    match outcome:
        case InventoryReserved():
            return Kind.ORDER_CONFIRMED
        case InventoryFailed():
            return Kind.OUT_OF_STOCK
        case _ as never:
            assert_never(never)


def message(outcome: Outcome) -> Message:
    """Return the message that tells this outcome."""
    match outcome:
        case InventoryReserved():
            return _order_confirmed(outcome)
        case InventoryFailed():
            return _out_of_stock(outcome)
        case _ as never:
            assert_never(never)


def _order_confirmed(outcome: InventoryReserved) -> Message:
    return Message(
        Kind.ORDER_CONFIRMED,
        subject="Your order is confirmed",
        text=_letter(
            "thank you for your order! Everything you asked for is set aside for you:",
            _listed(outcome.lines),
            "We are getting it ready now. There is nothing left for you to do.",
            _reference(outcome),
        ),
    )


def _out_of_stock(outcome: InventoryFailed) -> Message:
    what, advice = _shortage(outcome)
    return Message(
        Kind.OUT_OF_STOCK,
        subject="Sorry, we could not fill your order",
        text=_letter(
            f"we are sorry: we could not fill your order. {what}",
            _NO_STOCK,
            "This is what you asked for:",
            _listed(outcome.lines),
            advice,
            _reference(outcome),
        ),
    )


def _shortage(outcome: InventoryFailed) -> tuple[str, str]:
    """Return what was missing, and what the customer can do about it."""
    sku, wanted, left = outcome.sku, outcome.requested, outcome.available
    without = f'leave "{sku}" out and order the rest' if len(outcome.lines) > 1 else "look at what else we have"
    match outcome.reason:
        case Reason.UNKNOWN_SKU:
            return f'We do not carry "{sku}".', f"Please check the name and order again, or {without}."
        case Reason.INSUFFICIENT_STOCK if left > 0:
            return (
                f'You asked for {wanted} of "{sku}", and {left} {"is" if left == 1 else "are"} left.',
                f'You can order again with {"1" if left == 1 else f"up to {left}"} of "{sku}", or {without}.',
            )
        case Reason.INSUFFICIENT_STOCK:
            return (
                f'You asked for {wanted} of "{sku}", and it is sold out.',
                f"You can try again once it is back, or {without}.",
            )
        case Reason.OTHER:
            return f'It failed because of "{sku}".', f"You can try again a little later, or {without}."
        case _ as never:
            assert_never(never)


def _letter(*paragraphs: str) -> str:
    return "\n\n".join(("Hello,", *paragraphs, "Your shop")) + "\n"


def _listed(lines: tuple[OrderLine, ...]) -> str:
    width = max(len(str(line.quantity)) for line in lines)
    return "\n".join(f"    {line.quantity:>{width}} x {line.sku}" for line in lines)


def _reference(outcome: Outcome) -> str:
    placed = datetime.fromtimestamp(outcome.placed_at_ms / 1000, tz=UTC)
    return f"Order {outcome.order_id}, placed on {placed:%Y-%m-%d} at {placed:%H:%M} UTC."
