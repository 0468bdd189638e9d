"""Inventory events: whether an order got its stock. Exactly one of the two per order."""

from dataclasses import dataclass
from enum import StrEnum

from common.events.orders import (
    SKU_LENGTH_MAX,
    OrderLine,
    id_violation,
    order_violation,
    text_complaint,
    time_violation,
)


class Reason(StrEnum):
    """Why an order failed. Values are the symbols of the Avro enum."""

    INSUFFICIENT_STOCK = "insufficient_stock"
    UNKNOWN_SKU = "unknown_sku"
    OTHER = "other"
    """The enum's default: what a newer writer says and this reader does not know."""


@dataclass(frozen=True, slots=True)
class InventoryReserved:
    """These lines are held: all of the order's, or less if the rule serves orders in part. Times: epoch ms, UTC."""

    event_id: str
    order_id: str
    user_id: str
    lines: tuple[OrderLine, ...]
    placed_at_ms: int
    decided_at_ms: int

    def violation(self) -> str:
        """Return what makes this event impossible, naming the field, or an empty text if it may be."""
        return _outcome_violation(self)


@dataclass(frozen=True, slots=True)
class InventoryFailed:
    """Nothing is held. `sku`, `requested`, `available` describe the first line that lacked stock, in units."""

    event_id: str
    order_id: str
    user_id: str
    lines: tuple[OrderLine, ...]
    reason: Reason
    sku: str
    requested: int
    available: int
    placed_at_ms: int
    decided_at_ms: int

    def violation(self) -> str:
        """Return what makes this event impossible, naming the field, or an empty text if it may be."""
        if found := text_complaint(self.sku, length_max=SKU_LENGTH_MAX):
            return f"sku {found}"
        return _outcome_violation(self)


def _outcome_violation(event: InventoryReserved | InventoryFailed) -> str:
    return (
        id_violation("event_id", event.event_id)
        or order_violation(event.order_id, event.user_id, event.lines, event.placed_at_ms)
        or time_violation("decided_at", event.decided_at_ms)
    )
