"""How long stable offsets have stood still with something behind them: a transaction that no process ends. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from deploy.exporter.observer import Ends
from onceloop.records import Partition


class Stall(NamedTuple):
    """The stable offset of a partition, and since when it has been seen there with something behind it."""

    stable: int
    since_seconds: float


def stalls(
    known: Mapping[Partition, Stall], ends: Mapping[Partition, Ends], *, now_seconds: float
) -> dict[Partition, Stall]:
    """Return the stalls as they are now. Under load the stable offset moves from look to look: no stall grows old."""
    return {
        partition: _standing(known.get(partition), found.stable, now_seconds)
        for partition, found in ends.items()
        if found.high > found.stable
    }


def _standing(known: Stall | None, stable: int, now_seconds: float) -> Stall:
    return known if known is not None and known.stable == stable else Stall(stable, now_seconds)
