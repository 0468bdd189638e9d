"""How `pipeline stock` names a SKU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events.names import composed, name_complaint
from deploy.cli.stock import _legible
from deploy.provision.demo import demo_stock


@pytest.mark.parametrize(
    ("sku", "shown"),
    [
        ("tea", "tea"),
        ("caf\u00e9", "caf\u00e9"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("cafe\u0301", r"'cafe\u0301'"),
        ("tea ", "'tea '"),
        ("te\u200ca", r"'te\u200ca'"),
        ("\u3164", r"'\u3164'"),
    ],
)
def test_name_that_looks_like_another_is_shown_by_its_numbers(sku: str, shown: str) -> None:
    assert _legible(sku) == shown


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=64))
def test_no_name_is_shown_as_two_lines_or_as_another(sku: str) -> None:
    assert _legible(sku).isprintable() or not name_complaint(sku, length_max=64)
    assert _legible(sku) == sku or _legible(sku).startswith("'")


def test_demo_shop_has_names_that_can_be_ordered() -> None:
    assert [sku for sku in demo_stock() if name_complaint(sku, length_max=64) or composed(sku) != sku] == []
