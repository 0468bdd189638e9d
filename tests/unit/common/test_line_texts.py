"""Both ways make the same texts of a batch's lines, and the texts split into the same lines again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events import line_texts, scanning
from common.events.orders import QUANTITY_MAX, OrderLine

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=5)
LINES = st.lists(st.builds(OrderLine, NAMES, st.integers(1, QUANTITY_MAX)), min_size=1, max_size=4).map(tuple)
BATCHES = st.lists(LINES, max_size=6)
WAYS = [line_texts.in_python, line_texts.BEST]


@pytest.mark.parametrize("texts", WAYS, ids=["python", "extension" if scanning.is_built() else "python again"])
@given(BATCHES)
def test_texts_split_into_the_lines_that_were_joined(
    texts: line_texts.Texts, batch: list[tuple[OrderLine, ...]]
) -> None:
    skus, quantities = texts(batch, "\x1f", "\x1e")
    split = [
        tuple(map(OrderLine, names.split("\x1e"), map(int, numbers.split(","))))
        for names, numbers in zip(skus.split("\x1f"), quantities.split("\x1f"), strict=True)
        if names
    ]
    assert split == batch


@given(BATCHES)
def test_both_ways_make_the_same_texts(batch: list[tuple[OrderLine, ...]]) -> None:
    assert len({texts(batch, "\x1f", "\x1e") for texts in WAYS}) == 1
