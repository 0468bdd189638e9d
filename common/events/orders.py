"""Order events: what a customer asked for."""

import re
from typing import NamedTuple

LINES_MAX = 100
QUANTITY_MAX = 10_000
SKU_LENGTH_MAX = 64
USER_ID_LENGTH_MAX = 128
PLACED_BEFORE_MS = 253_402_300_800_000
"""The year 10000, which neither PostgreSQL's clients nor Python write down."""
ZWNJ, ZWJ = "\u200c", "\u200d"
"""Zero width (non-)joiner: invisible themselves, and part of how Persian, Malayalam and many emoji are spelled."""


class OrderLine(NamedTuple):
    """Quantity of one SKU, in units."""

    sku: str
    quantity: int


class OrderCreated(NamedTuple):
    """An order was accepted. `order_id` is a UUIDv7 in canonical text; a SKU stands on one line at most."""

    order_id: str
    user_id: str
    lines: tuple[OrderLine, ...]
    placed_at_ms: int
    """Event time: milliseconds since the epoch, UTC."""

    def violation(self) -> str:
        """Return what makes this event impossible, naming the field, or an empty text if it may be.

        The database must be able to hold whatever passes here: an order with a decision is never dead-lettered.
        """
        return order_violation(self.order_id, self.user_id, self.lines, self.placed_at_ms)


_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_JOINERS = str.maketrans(dict.fromkeys((ZWNJ, ZWJ)))


def order_violation(order_id: str, user_id: str, lines: tuple[OrderLine, ...], placed_at_ms: int) -> str:
    """Return what makes the order in an event impossible, naming the field, or an empty text."""
    if not _UUID.fullmatch(order_id):
        return id_violation("order_id", order_id)
    if found := text_complaint(user_id, length_max=USER_ID_LENGTH_MAX):
        return f"user_id {found}"
    if not 0 < placed_at_ms < PLACED_BEFORE_MS:
        return time_violation("placed_at", placed_at_ms)
    return _lines_violation(lines)


def id_violation(name: str, value: str) -> str:
    """Return what is wrong with an id of an order or an event, or an empty text."""
    return "" if _UUID.fullmatch(value) else f"{name} is not a UUID in canonical text"


def user_violation(user_id: str) -> str:
    """Return what is wrong with a user id, or an empty text."""
    found = text_complaint(user_id, length_max=USER_ID_LENGTH_MAX)
    return f"user_id {found}" if found else ""


def time_violation(name: str, epoch_ms: int) -> str:
    """Return what is wrong with a time, or an empty text: before the year 10000, as PostgreSQL and Python have it."""
    return "" if 0 < epoch_ms < PLACED_BEFORE_MS else f"{name} is out of range: {epoch_ms}"


def text_complaint(text: str, *, length_max: int) -> str:
    """Return what is wrong with a name (user id, SKU), or an empty text: 1 to `length_max` printable characters.

    Joiners are taken wherever they stand: whether they join is asked where names come in (`common.events.names`).
    """
    if not text:
        return "is empty"
    if len(text) > length_max:
        return f"is longer than {length_max} characters"
    if not (text.isprintable() or text.translate(_JOINERS).isprintable()):
        return "holds control or other unprintable characters"
    return ""


def _lines_violation(lines: tuple[OrderLine, ...]) -> str:
    if not 1 <= len(lines) <= LINES_MAX:
        return f"lines holds {len(lines)} entries instead of 1 to {LINES_MAX}"
    for index, (sku, quantity) in enumerate(lines):
        if sku and len(sku) <= SKU_LENGTH_MAX and sku.isprintable() and 1 <= quantity <= QUANTITY_MAX:
            continue
        if found := text_complaint(sku, length_max=SKU_LENGTH_MAX):
            return f"lines[{index}].sku {found}"
        if not 1 <= quantity <= QUANTITY_MAX:
            return f"lines[{index}].quantity is {quantity} instead of 1 to {QUANTITY_MAX}"
    if len({sku for sku, _ in lines}) != len(lines):
        return "lines names a sku twice"
    return ""
