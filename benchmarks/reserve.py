"""How much faster is a worker that reserves many orders per transaction than one that takes them one by one?

The same worker runs in turns on the same data: a batch, one order, a batch, one order ... so that a slow minute of the
machine hits both. Enough orders lie ahead of each turn that none waits for input; a turn that ran dry says nothing
about the worker, so it is void and repeated.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.worker import Window, Worker, WorkerError

WARM_UP_SECONDS = 3.0
"""Dropped: cold broker, cold plans."""
SPARE_SECONDS = 0.7
"""A worker takes orders also while it is asked to stop."""
SPARE_FACTOR = 1.3
DRY_TURNS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to compare, and how long. `orders_ahead`: unread orders before the first turn of the batch."""

    rounds: int
    batch: int
    seconds: float
    orders_ahead: int
    warm_up_seconds: float = WARM_UP_SECONDS


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a variant, named by how many orders it takes at once; dry: it reached the end of its input."""

    batch: int
    window: Window
    dry: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all turns of a variant."""

    least: float
    median: float
    most: float


class Backlog(Protocol):
    """The input of the turns."""

    def unread(self) -> int:
        """Return how many orders have no decision yet."""

    def load(self, count: int) -> None:
        """Put so many more behind them."""


def compare(
    question: Question,
    *,
    backlog: Backlog,
    start: Callable[[int], Worker],
    report: Callable[[Turn], None],
) -> tuple[Turn, ...]:
    """Return all turns that count, batch and single alternately. `start` starts a worker with a batch limit.

    Raises WorkerError if a worker does not do its part, or if the input cannot be kept ahead of it.
    """
    turns: list[Turn] = []
    ahead, dry_turns = question.orders_ahead, 0
    while len(turns) < 2 * question.rounds:
        batch = question.batch if len(turns) % 2 == 0 else 1
        if batch > 1:
            backlog.load(max(0, ahead - backlog.unread()))
        turn = _take(batch, question, start)
        report(turn)
        if not turn.dry:
            turns.append(turn)
            ahead = max(ahead, orders_needed(turn, question))
            continue
        dry_turns, ahead = dry_turns + 1, 2 * ahead
        if dry_turns > DRY_TURNS_MAX:
            raise WorkerError("the input ran dry again and again", cure=f"put more ahead: --orders-ahead {ahead}")
    return tuple(turns)


def orders_needed(turn: Turn, question: Question) -> int:
    """Return how many orders the next turn may use up, going by this one."""
    seconds = question.warm_up_seconds + question.seconds + SPARE_SECONDS
    return round(turn.window.orders_per_second * seconds * SPARE_FACTOR)


def spread(figures: Iterable[float]) -> Spread:
    """Return least, median and most; there must be at least one."""
    known = list(figures)
    return Spread(min(known), statistics.median(known), max(known))


def of_batch(turns: Sequence[Turn], batch: int) -> list[Turn]:
    """Return the turns of one variant."""
    return [turn for turn in turns if turn.batch == batch]


def ratio(turns: Sequence[Turn], batch: int) -> float:
    """Return the median speed of the batch by the median speed of single orders."""
    fast, slow = (spread(turn.window.orders_per_second for turn in of_batch(turns, each)) for each in (batch, 1))
    return fast.median / slow.median


def ratios_by_round(turns: Sequence[Turn], batch: int) -> list[float]:
    """Return the batch's speed by that of the single orders beside it: how far the machine's noise moves the ratio."""
    pairs = zip(of_batch(turns, batch), of_batch(turns, 1), strict=True)
    return [fast.window.orders_per_second / slow.window.orders_per_second for fast, slow in pairs]


def _take(batch: int, question: Question, start: Callable[[int], Worker]) -> Turn:
    worker = start(batch)
    window = worker.measure(warm_up_seconds=question.warm_up_seconds, seconds=question.seconds)
    worker.stop()
    return Turn(batch, window, dry=window.lag_records < batch)
