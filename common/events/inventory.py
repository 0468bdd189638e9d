"""Inventory events: whether an order got its stock. Exactly one of the two per order."""

from dataclasses import dataclass
from enum import StrEnum

from common.events.orders import OrderLine


class Reason(StrEnum):
    """Why an order failed. Values are the symbols of the Avro enum."""

    INSUFFICIENT_STOCK = "insufficient_stock"
    UNKNOWN_SKU = "unknown_sku"
    OTHER = "other"
    """The enum's default: what a newer writer says and this reader does not know."""


@dataclass(frozen=True, slots=True)
class InventoryReserved:
    """All lines of the order are held. Times are milliseconds since the epoch, UTC."""

    event_id: str
    order_id: str
    user_id: str
    lines: tuple[OrderLine, ...]
    placed_at_ms: int
    decided_at_ms: int


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
