"""Which events the table could not hold."""

import pytest

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderLine
from order_service.core.status import StatusEvent
from order_service.io.projection import _complaint
from tests.factories import make_order

ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"
LINES = (OrderLine("tea", 2),)
TOO_LATE_MS = 2**62


@pytest.mark.parametrize(
    "event",
    [
        make_order(),
        InventoryReserved("e", ID, "ada", LINES, 1, 2),
        InventoryFailed("e", ID, "ada", LINES, Reason.OTHER, "tea", 2, 0, 1, 2),
        NotificationSent("e", ID, "ada", Kind.OTHER, "log", 3),
    ],
)
def test_events_as_they_are_written_pass(event: StatusEvent) -> None:
    assert _complaint(event) == ""


@pytest.mark.parametrize(
    "event",
    [
        InventoryReserved("e", "no uuid", "ada", LINES, 1, 2),
        InventoryReserved("e", ID, "a\x00da", LINES, 1, 2),
        InventoryReserved("e", ID, "ada", (OrderLine("t\x00a", 1),), 1, 2),
        InventoryReserved("e", ID, "ada", LINES, TOO_LATE_MS, 2),
        InventoryReserved("e", ID, "ada", LINES, 1, TOO_LATE_MS),
        InventoryFailed("e", ID, "ada", LINES, Reason.OTHER, "t\x00a", 2, 0, 1, 2),
        NotificationSent("e", "no uuid", "ada", Kind.OTHER, "log", 3),
        NotificationSent("e", ID, "", Kind.OTHER, "log", 3),
        NotificationSent("e", ID, "ada", Kind.OTHER, "log", TOO_LATE_MS),
    ],
)
def test_events_that_the_table_could_not_hold_are_named(event: StatusEvent) -> None:
    assert _complaint(event) != ""
