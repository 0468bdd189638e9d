"""Read the orders of a batch at once: by the extension of `native/` where it is built, else not at all. Pure.

The extension is never right where the codec is wrong: what it returns as an order is what `Codec.decode` returns for
the same bytes, and whatever is unusual it leaves to the codec, which words what is wrong with it. So a worker without
the extension does the same, more slowly (docs/adr/0056-orders-are-read-by-an-extension.md).
"""

from collections.abc import Callable
from typing import Any

from fastavro.schema import to_parsing_canonical_form

from common.events.extension import EXTENSION
from common.events.orders import (
    LINES_MAX,
    PLACED_BEFORE_MS,
    QUANTITY_MAX,
    SKU_LENGTH_MAX,
    USER_ID_LENGTH_MAX,
    OrderCreated,
    OrderLine,
)

Scan = Callable[[list[bytes | None]], list[OrderCreated | None]]
"""Values -> per value the order that it holds, or None where the codec is to be asked."""
BuildScan = Callable[[bytes], Scan]
"""What makes one for values that begin with these five bytes, the frame of our own schema."""

_LAYOUT: Any = {
    "type": "record",
    "name": "order_pipeline.v1.OrderCreated",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "user_id", "type": "string"},
        {
            "name": "lines",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "order_pipeline.v1.OrderLine",
                    "fields": [{"name": "sku", "type": "string"}, {"name": "quantity", "type": "int"}],
                },
            },
        },
        {"name": "placed_at", "type": "long"},
    ],
}
"""All that the extension knows of the schema: which bytes stand where."""


def is_built() -> bool:
    """Return whether the extension is there, the one of this source."""
    return EXTENSION is not None


def fits(schema: Any) -> bool:
    """Return whether this schema puts an order's bytes where the extension looks for them."""
    return str(to_parsing_canonical_form(schema)) == str(to_parsing_canonical_form(_LAYOUT))


def leave_all(frame: bytes) -> Scan:
    """Return what finds no order: the codec is asked for each."""
    del frame
    return lambda values: [None] * len(values)


def by_extension(frame: bytes) -> Scan:
    """Return what finds the usual orders, nearly all of them."""
    assert EXTENSION is not None  # noqa: S101 - a broken programmer: see `is_built`
    scan: Scan = EXTENSION.OrderScanner(
        frame,
        OrderCreated,
        OrderLine,
        user_id_length_max=USER_ID_LENGTH_MAX,
        sku_length_max=SKU_LENGTH_MAX,
        lines_max=LINES_MAX,
        quantity_max=QUANTITY_MAX,
        placed_before_ms=PLACED_BEFORE_MS,
    ).scan
    return scan


BEST: BuildScan = by_extension if is_built() else leave_all
