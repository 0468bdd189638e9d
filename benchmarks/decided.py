"""How fast is the generic store of decisions beside the inventory's own, on the same orders?

Both workers run in turns, each in a group of its own: inventory, app, inventory, app ... so that a slow minute of the
machine hits both. The app's handler decides as the inventory does (`decided_app`); only the store differs.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.worker import Window, Worker, WorkerError

OWN, GENERIC = "inventory's own store", "generic store"


@dataclass(frozen=True, slots=True)
class StoreTurn:
    """One turn of a variant."""

    variant: str
    window: Window


def compare_stores(
    start: Mapping[str, Callable[[], Worker]],
    *,
    rounds: int,
    seconds: float,
    warm_up_seconds: float,
    report: Callable[[StoreTurn], None],
) -> list[StoreTurn]:
    """Return all turns, the variants alternately. Raises WorkerError for a turn that reached the end of its input."""
    turns: list[StoreTurn] = []
    for _ in range(rounds):
        for variant, begin in start.items():
            worker = begin()
            turn = StoreTurn(variant, worker.measure(warm_up_seconds=warm_up_seconds, seconds=seconds))
            worker.stop()
            if turn.window.lag_records == 0:
                raise WorkerError("the input ran dry", cure="put more ahead: --orders-ahead")
            report(turn)
            turns.append(turn)
    return turns


def speeds(turns: Sequence[StoreTurn], variant: str) -> list[float]:
    """Return the orders per second of a variant, turn by turn."""
    return [turn.window.orders_per_second for turn in turns if turn.variant == variant]


def store_ratio(turns: Sequence[StoreTurn]) -> float:
    """Return the median speed of the generic store by that of the inventory's own."""
    return statistics.median(speeds(turns, GENERIC)) / statistics.median(speeds(turns, OWN))


def store_ratios(turns: Sequence[StoreTurn]) -> list[float]:
    """Return the ratio of each round: how far the machine's noise moves it."""
    pairs = zip(speeds(turns, GENERIC), speeds(turns, OWN), strict=True)
    return [generic / own for generic, own in pairs]
