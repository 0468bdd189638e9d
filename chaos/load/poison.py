"""Values that hold no order, one way each. Pure."""

from collections.abc import Callable
from typing import Any

from common.events.codec import Codec
from common.events.orders import OrderCreated, OrderLine
from common.topics import MESSAGE_BYTES_MAX

FRAME_BYTES = 5
UNREGISTERED_SCHEMA = b"\x00\x7f\xff\xff\xff"

Spoil = Callable[[Codec, OrderCreated], bytes | None]


def _content(**changes: Any) -> Spoil:
    return lambda codec, order: codec.encode(order._replace(**changes))


POISON: dict[str, Spoil] = {
    "no value": lambda _codec, _order: None,
    "empty": lambda _codec, _order: b"",
    "bad magic": lambda codec, order: b"\x07" + codec.encode(order)[1:],
    "unknown schema": lambda codec, order: UNREGISTERED_SCHEMA + codec.encode(order)[FRAME_BYTES:],
    "truncated": lambda codec, order: codec.encode(order)[: FRAME_BYTES + 20],
    "bytes behind": lambda codec, order: codec.encode(order) + b"!",
    "too large for a copy": lambda codec, order: codec.encode(order) + bytes(MESSAGE_BYTES_MAX),
    "no lines": _content(lines=()),
    "quantity of zero": _content(lines=(OrderLine("tea", 0),)),
    "a SKU twice": _content(lines=(OrderLine("tea", 1), OrderLine("tea", 2))),
    "no UUID": _content(order_id="42"),
    "no text for PostgreSQL": _content(user_id="a\x00b"),
    "before all time": _content(placed_at_ms=-1),
}
"""By name. What is too large compresses well, so that its own topic takes it."""
