"""Which offsets between a committed and the stable offset hold a record for a read_committed reader. Pure.

Commit markers and records of aborted transactions take offsets too. Only reading shows which, so what was read is
remembered, and only what is new is read. A long tail is not read at all: there the difference of the offsets says
enough, and it is reported as it is.
"""

import json
from contextlib import suppress
from typing import NamedTuple

UNREAD_MAX = 1000
"""Longer than this a tail is not read."""
RECORDS_MAX = 10_000
"""More than this is not remembered."""


class Window(NamedTuple):
    """What is known of the offsets from `start` up to, not including, `end`: the records among them, ascending."""

    start: int
    end: int
    records: tuple[int, ...] = ()


def following(window: Window, committed: int) -> Window:
    """Return the window once the group stands at `committed`; what it knew is forgotten if the group went elsewhere."""
    if not window.start <= committed <= window.end:
        return Window(committed, committed)
    return Window(committed, window.end, tuple(offset for offset in window.records if offset >= committed))


def is_worth_reading(window: Window, stable: int) -> bool:
    """Return True if there is something new, and little enough to look at."""
    return 0 < stable - window.end <= UNREAD_MAX and len(window.records) < RECORDS_MAX


def extended(window: Window, end: int, records: list[int]) -> Window:
    """Return the window with what was read behind it."""
    return Window(window.start, max(end, window.end), (*window.records, *records))


def lag_records(window: Window, stable: int) -> int:
    """Return how many records are left; an offset that was not looked at counts as one."""
    return len(window.records) + max(0, stable - window.end)


def read_to(offset: int, metadata: str) -> int:
    """Return the first offset that is new to a group, given what it committed.

    A group that remembers by its offsets alone commits the oldest record that it must read again; what it has read to
    stands beside it, as `p` of a JSON object.
    """
    with suppress(ValueError):
        committed = json.loads(metadata)
        if isinstance(committed, dict) and isinstance(committed.get("p"), int):
            return max(offset, int(committed["p"]))
    return offset
