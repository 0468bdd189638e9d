"""What a notification says: an outcome becomes a message, and the message a name that never changes. Pure.

The same outcome yields the same text and the same ids, on every attempt and on every machine: a repeated mail is
recognised by its Message-ID, a repeated `NotificationSent` by its event id.

Any client may place an order for any user, so nothing is quoted but what the shop itself carries: an order is no way to
send one's own text to others.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind
from common.events.orders import OrderLine
from notification_service.core.outcomes import Outcome

_NO_STOCK = "Nothing is set aside and nothing was charged."


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a customer, in plain text, one paragraph per line."""

    kind: Kind
    subject: str
    text: str


def kind(outcome: Outcome) -> Kind:
    """Return what the customer is notified of by this outcome."""
    match outcome:
        case InventoryReserved():
            return Kind.ORDER_CONFIRMED
        case InventoryFailed():
            return Kind.OUT_OF_STOCK
        case _ as never:
            assert_never(never)


def message(outcome: Outcome) -> Message:
    """Return the message that reports this outcome."""
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
            "thank you for your order! This is set aside for you:",
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
            _listed(_carried(outcome), others=len(outcome.lines) - len(_carried(outcome))),
            advice,
            _reference(outcome),
        ),
    )


def _carried(outcome: InventoryFailed) -> tuple[OrderLine, ...]:
    """Return the lines whose SKU exists for certain: those in front of the one that failed, and it if it does."""
    at = _failed_at(outcome)
    return outcome.lines[: at + (outcome.reason is Reason.INSUFFICIENT_STOCK)]


def _failed_at(outcome: InventoryFailed) -> int:
    """Return the index of the line that failed; lines are decided in their order."""
    return next((at for at, line in enumerate(outcome.lines) if line.sku == outcome.sku), 0)


def _shortage(outcome: InventoryFailed) -> tuple[str, str]:
    """Return what was missing, and what the customer can do about it."""
    sku, wanted, left = outcome.sku, outcome.requested, outcome.available
    item = f"item {_failed_at(outcome) + 1} of it"
    others = len(outcome.lines) > 1
    match outcome.reason:
        case Reason.INSUFFICIENT_STOCK:
            without = f'leave "{sku}" out and order the rest' if others else "look at what else we have"
            lacking = f"{left} {'is' if left == 1 else 'are'} left" if left > 0 else "it is sold out"
            upto = "1" if left == 1 else f"up to {left}"
            again = f'You can order again with {upto} of "{sku}"' if left > 0 else "You can try again once it is back"
            return f'You asked for {wanted} of "{sku}", and {lacking}.', f"{again}, or {without}."
        case Reason.UNKNOWN_SKU:
            without = "leave it out and order the rest" if others else "look at what else we have"
            return f"We do not carry {item}.", f"Please check its name and order again, or {without}."
        case Reason.OTHER:
            without = "leave it out and order the rest" if others else "look at what else we have"
            return f"It failed because of {item}.", f"You can try again a little later, or {without}."
        case _ as never:
            assert_never(never)


def _letter(*paragraphs: str) -> str:
    return "\n\n".join(("Hello,", *paragraphs, "Your shop")) + "\n"


def _listed(lines: tuple[OrderLine, ...], *, others: int = 0) -> str:
    width = max((len(str(line.quantity)) for line in lines), default=0)
    listed = [f"    {line.quantity:>{width}} x {line.sku}" for line in lines]
    if others:
        listed.append(
            f"    {'and ' if lines else ''}{others} {'item' if others == 1 else 'items'}{' more' if lines else ''}"
        )
    return "\n".join(listed)


def _reference(outcome: Outcome) -> str:
    placed = datetime.fromtimestamp(outcome.placed_at_ms / 1000, tz=UTC)
    return f"Order {outcome.order_id}, placed on {placed:%Y-%m-%d} at {placed:%H:%M} UTC."
