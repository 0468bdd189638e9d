"""When which fault falls, drawn from a seed. Pure: the same seed gives the same schedule, wherever it is asked."""

import math
import random
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

WINDOW_SECONDS = 15.0
CALM = 0.25
"""The last part of each window, in which no fault begins."""
FAULTS_PER_WINDOW = 8


class Planned(NamedTuple):
    """One fault to come. `at`: seconds from the start of the load; `dice`: what its own choices follow from."""

    at: float
    kind: str
    dice: int


def schedule(
    seed: int,
    seconds: float,
    kinds: Sequence[str],
    *,
    once: Collection[str] = (),
    per_window: int = FAULTS_PER_WINDOW,
) -> tuple[Planned, ...]:
    """Return the faults of so many seconds, in order of time.

    Every window of 15 s is dealt a hand of its own from a shuffled deck of all kinds, which is shuffled again when it
    is used up: each kind falls once before any falls twice. Those of `once` are not put into the deck again.
    """
    chance = random.Random(f"nemesis {seed}")  # noqa: S311 - repeatable on purpose
    deck = _deck(chance, sorted(kinds), once)
    planned: list[Planned] = []
    for window in range(math.ceil(seconds / WINDOW_SECONDS)):
        begin = window * WINDOW_SECONDS
        stormy = min(WINDOW_SECONDS, seconds - begin) * (1 - CALM)
        times = sorted(begin + chance.uniform(0, stormy) for _ in range(per_window))
        planned += [Planned(round(at, 2), next(deck), chance.randrange(1 << 32)) for at in times]
    return tuple(planned)


def _deck(chance: random.Random, kinds: Sequence[str], once: Collection[str]) -> Iterator[str]:
    yield from chance.sample(kinds, len(kinds))
    again = [kind for kind in kinds if kind not in once]
    while True:
        yield from chance.sample(again, len(again))
