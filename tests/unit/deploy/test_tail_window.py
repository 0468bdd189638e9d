"""Lag from outside counts records alone, as long as the tail is short enough to be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.exporter.tail_window import UNREAD_MAX, Window, extended, following, is_worth_reading, lag_records, read_to
from metrics_service.core import totals, windows

Step = tuple[str, int]


def look(window: Window, log: list[bool], *, committed: int) -> Window:
    """Do what the observer does in one look at a partition whose offsets hold a record, or a marker."""
    window = following(window, committed)
    if is_worth_reading(window, len(log)):
        found = [offset for offset in range(window.end, len(log)) if log[offset]]
        window = extended(window, len(log), found)
    return window


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.lists(st.booleans(), max_size=20)),
            st.tuples(st.just("commit"), st.floats(0, 1)),
        ),
        max_size=30,
    )
)
def test_lag_is_the_number_of_records__wherever_the_group_goes(steps: list[tuple[str, list[bool] | float]]) -> None:
    log: list[bool] = []
    committed, window = 0, Window(0, 0)
    for _, what in steps:
        if isinstance(what, list):
            log += what
        else:
            committed = round(what * len(log))  # ahead and back
        window = look(window, log, committed=committed)
        assert lag_records(window, len(log)) == sum(log[committed:])


def test_long_tail_is_not_read_and_counts_by_its_offsets() -> None:
    window = Window(5, 5)
    assert not is_worth_reading(window, 5 + UNREAD_MAX + 1)
    assert lag_records(window, 5 + UNREAD_MAX + 1) == UNREAD_MAX + 1
    assert is_worth_reading(window, 5 + UNREAD_MAX)


def test_nothing_new_is_not_read_again() -> None:
    assert not is_worth_reading(Window(5, 9, (5, 6)), 9)


def test_what_could_not_be_read_in_time_counts_by_its_offsets() -> None:
    assert lag_records(extended(Window(5, 5), 8, [6]), 20) == 1 + 12


@pytest.mark.parametrize(
    "metadata", [windows.Progress(9, 0, 0).to_metadata(), totals.Progress(9).to_metadata(), '{"p": 9, "later": true}']
)
def test_group_that_commits_what_it_must_read_again_is_where_it_has_read_to(metadata: str) -> None:
    """Else a group whose memory are its offsets would have a lag for ever."""
    assert read_to(4, metadata) == 9


@pytest.mark.parametrize("metadata", ["", "note", "[9]", '{"p": "9"}', '{"p": null}', '{"p": 3}'])
def test_metadata_that_says_nothing_leaves_the_committed_offset(metadata: str) -> None:
    assert read_to(4, metadata) == 4
