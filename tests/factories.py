"""Values with defaults: a test names only what it is about."""

import uuid
from collections.abc import Sequence

import uuid_utils

from common.events.codec import EVENT_TYPES, Codec, schema_text
from common.events.orders import OrderCreated, OrderLine
from onceloop.errors import Undecodable

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
    """Return a codec for tests that have no registry: each packaged schema has an id of its own, from 1 on."""
    ids = {event.__name__: number for number, event in enumerate(EVENT_TYPES, 1)}
    texts = {number: schema_text(event) for event, number in ids.items()}

    def writer_schema(number: int) -> str:
        if number not in texts:
            raise Undecodable("schema", f"schema id {number} is not registered")
        return texts[number]

    return Codec(ids, writer_schema)
