"""Find what the database rejects in a batch, by halving it at once."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from common.log import get_logger
from onceloop.errors import Poison

T = TypeVar("T")
R = TypeVar("R")

log = get_logger()


def halve(items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> tuple[list[R], list[tuple[T, Poison]]]:
    """Return the results of `work`, and which items the database rejects, each alone and twice.

    A part that is rejected is halved and tried again at once, in transactions of its own, so that the good halves
    commit. Taking less from the topic instead finds no end under load: what comes next is mostly of another partition,
    succeeds, and lets the batch grow again.
    """
    if not items:
        return [], []
    try:
        return work(items), []
    except Poison as poison:
        log.warning("batch.rejected", records=len(items), cause=str(poison))
    if len(items) == 1:
        try:
            return work(items), []
        except Poison as poison:
            return [], [(items[0], poison)]
    middle = len(items) // 2
    parts = [halve(part, work) for part in (items[:middle], items[middle:])]
    return [result for results, _ in parts for result in results], [each for _, rejected in parts for each in rejected]
