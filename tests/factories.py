"""Values with defaults: a test names only what it is about."""

import uuid
from collections.abc import Sequence

import uuid_utils

from common.events.codec import Codec, schema_text
from common.events.orders import OrderCreated, OrderLine

PLACED_AT_MS = 1_800_000_000_000


def make_order(
    *,
    lines: Sequence[tuple[str, int]] = (("tea", 1),),
    user_id: str = "ada",
    order_id: str | None = None,
    placed_at_ms: int = PLACED_AT_MS,
) -> OrderCreated:
    return OrderCreated(
        order_id=order_id or str(uuid.UUID(bytes=uuid_utils.uuid7().bytes)),
        user_id=user_id,
        lines=tuple(OrderLine(sku, quantity) for sku, quantity in lines),
        placed_at_ms=placed_at_ms,
    )


def make_codec() -> Codec:
    """Return a codec for tests that have no registry: each packaged schema has an id of its own."""
    events = ("OrderCreated", "InventoryReserved", "InventoryFailed", "NotificationSent")
    return Codec(
        {event: number for number, event in enumerate(events, 1)}, lambda number: schema_text(events[number - 1])
    )
