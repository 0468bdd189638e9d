"""Which events cannot be, and that each is named by its field; no decoder lets one through."""

from dataclasses import replace
from typing import Any

import pytest

from common.events.codec import Event
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated, OrderLine
from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial
from onceloop.errors import Undecodable
from tests.factories import make_codec, make_order

EVENT_ID, ORDER_ID = "01963c1e-7b44-7000-8000-00000000000a", "01963c1e-7b44-7000-8000-0000000000ff"
LINES = (OrderLine("tea", 2),)
TOO_LATE_MS = 2**62
ORDER = make_order()
RESERVED = InventoryReserved(EVENT_ID, ORDER_ID, "ada", LINES, 1, 2)
FAILED = InventoryFailed(EVENT_ID, ORDER_ID, "ada", LINES, Reason.OTHER, "tea", 2, 0, 1, 2)
SENT = NotificationSent(EVENT_ID, ORDER_ID, "ada", Kind.OTHER, "log", 3)
PARTIAL = VolumePartial("inventory.reserved", 0, MINUTE_MS, 1, 0, 2, 0, 5)
TOTAL = MinuteVolume(MINUTE_MS, 1, 1, 0, 2, 0, 1)
POSSIBLE: tuple[Event, ...] = (ORDER, RESERVED, FAILED, SENT, PARTIAL, TOTAL)

OF_EVERY_ORDER: tuple[tuple[str, Any], ...] = (
    ("order_id", "no uuid"),
    ("user_id", ""),
    ("user_id", "a\x00da"),
    ("user_id", "ada\r\nBcc: eve@evil.example"),
)
OF_LINES: tuple[tuple[str, Any], ...] = (("lines", ()), ("lines", (OrderLine("t\x00a", 1),)))
OF_TIMES: tuple[tuple[str, Any], ...] = (("placed_at_ms", TOO_LATE_MS), ("placed_at_ms", 0))
OF_OUTCOMES = (*OF_EVERY_ORDER, *OF_LINES, *OF_TIMES, ("event_id", "7"), ("decided_at_ms", TOO_LATE_MS))
IMPOSSIBLE: tuple[tuple[Event, tuple[tuple[str, Any], ...]], ...] = (
    (ORDER, (*OF_EVERY_ORDER, *OF_LINES, *OF_TIMES)),
    (RESERVED, OF_OUTCOMES),
    (FAILED, (*OF_OUTCOMES, ("sku", "t\x00a"), ("sku", ""))),
    (SENT, (*OF_EVERY_ORDER, ("sent_at_ms", TOO_LATE_MS))),
    (PARTIAL, (("minute_ms", MINUTE_MS + 1), ("units", -1), ("until", -1))),
    (TOTAL, (("minute_ms", 1), ("orders", -1), ("revision", -1))),
)


@pytest.mark.parametrize("event", POSSIBLE, ids=lambda event: type(event).__name__)
def test_event_as_it_is_written_may_be(event: Event) -> None:
    assert event.violation() == ""
    assert make_codec().decode(type(event), make_codec().encode(event)) == event


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        pytest.param(event, field, value, id=f"{type(event).__name__} {field} {value!r}")
        for event, cases in IMPOSSIBLE
        for field, value in cases
    ],
)
def test_impossible_event_is_refused_naming_the_field(event: Event, field: str, value: Any) -> None:
    changes = {field: value}
    impossible = event._replace(**changes) if isinstance(event, OrderCreated) else replace(event, **changes)
    assert impossible.violation().startswith(field.removesuffix("_ms"))
    with pytest.raises(Undecodable) as refused:
        make_codec().decode(type(event), make_codec().encode(impossible))
    assert (refused.value.error_class, refused.value.reason) == ("content", impossible.violation())
