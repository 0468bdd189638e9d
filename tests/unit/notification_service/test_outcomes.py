"""Outcomes that cannot be are no work for the ledger."""

from dataclasses import replace

import pytest

from common.events.inventory import InventoryReserved
from common.events.orders import OrderLine
from notification_service.core.outcomes import complaint

POSSIBLE = InventoryReserved(
    event_id="01963c1e-7b44-7000-8000-00000000000a",
    order_id="01963c1e-7b44-7000-8000-0000000000ff",
    user_id="ada",
    lines=(OrderLine("tea", 2),),
    placed_at_ms=1_800_000_000_000,
    decided_at_ms=1_800_000_000_005,
)


def test_possible_outcome_passes() -> None:
    assert not complaint(POSSIBLE)


@pytest.mark.parametrize(
    ("impossible", "field"),
    [
        (replace(POSSIBLE, event_id="7"), "event_id"),
        (replace(POSSIBLE, order_id="7"), "order_id"),
        (replace(POSSIBLE, user_id="ada\r\nBcc: eve@evil.example"), "user_id"),
        (replace(POSSIBLE, user_id="a\x00"), "user_id"),
        (replace(POSSIBLE, lines=()), "lines"),
    ],
)
def test_impossible_outcome_is_named_by_its_field(impossible: InventoryReserved, field: str) -> None:
    assert complaint(impossible).startswith(field)
