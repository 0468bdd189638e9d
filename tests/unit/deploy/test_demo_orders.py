from typing import Any

import pytest

from deploy.cli.demo_orders import INSUFFICIENT, ORDERS, RESERVED, UNKNOWN, Wanted, complaint, complaints
from deploy.provision.demo import demo_stock

FAILING = Wanted("dan", {"snow-globe": 1}, INSUFFICIENT, "snow-globe")


def order(**changed: Any) -> dict[str, Any]:
    lacking = {"sku": "snow-globe", "requested": 1, "available": 0}
    return {"status": "failed", "reason": INSUFFICIENT, "lacking": lacking, "notified": True, **changed}


def test_orders_meet_every_outcome() -> None:
    assert {wanted.outcome for wanted in ORDERS} == {RESERVED, INSUFFICIENT, UNKNOWN}
    assert len(ORDERS) == 20


def test_wanted_outcomes_follow_from_the_shelves() -> None:
    """Replay the orders on the demo's stock by the plainest arithmetic there is."""
    left = demo_stock()
    for wanted in ORDERS:
        lacking = next((sku for sku, units in wanted.lines.items() if left.get(sku, -1) < units), None)
        assert lacking == wanted.lacking, wanted
        if lacking is None:
            assert wanted.outcome == RESERVED
            for sku, units in wanted.lines.items():
                left[sku] -= units
        else:
            assert wanted.outcome == (INSUFFICIENT if lacking in left else UNKNOWN)


def test_orders_that_rival_for_stock_are_of_one_customer() -> None:
    """Only then they stand on one partition, and the outcome of each is known beforehand."""
    stock = demo_stock()
    rivals: dict[str, set[str]] = {}
    for wanted in ORDERS:
        for sku in wanted.lines:
            if 0 < stock.get(sku, 0) < 100:
                rivals.setdefault(sku, set()).add(wanted.user_id)
    assert rivals
    assert all(len(users) == 1 for users in rivals.values())


def test_an_order_as_it_must_be_gives_no_complaint() -> None:
    assert complaint(FAILING, order()) == ""


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"status": "pending", "reason": None, "lacking": None}, "no outcome"),
        ({"status": "reserved", "reason": None, "lacking": None}, "reserved instead of insufficient_stock"),
        ({"lacking": {"sku": "tea"}}, "lacks tea instead of snow-globe"),
        ({"notified": False}, "not notified"),
    ],
)
def test_an_order_that_is_not_as_it_must_be_is_named(changed: dict[str, Any], words: str) -> None:
    [line] = complaints([(FAILING, "01990b3c", order(**changed))])
    assert "01990b3c of dan" in line
    assert words in line


def test_an_order_that_is_unknown_has_no_outcome() -> None:
    assert complaint(FAILING, {}) == "has no outcome"
