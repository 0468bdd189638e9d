"""Whether what lives long stays as large as it was: memory, descriptors and connections, looked at once a minute."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import NamedTuple

import psutil

EVERY_SECONDS = 60.0
SAMPLES_MIN = 6
MEGABYTE = 1 << 20

ALLOWED: Mapping[str, tuple[float, float]] = {
    "megabytes": (1.15, 16.0),
    "descriptors": (1.0, 8.0),
    "connections": (1.0, 10.0),
}
"""By how much the last third may exceed the first: a factor, and then so many. A pool of a killed API fills again."""


class Life(NamedTuple):
    """One process, or one role of the database (pid 0). A restarted process is another one."""

    name: str
    pid: int


Samples = dict[tuple[Life, str], list[float]]


class Growth:
    """Keeps samples of these lives, one with each look.

    `connections` returns role -> sessions; None while the database is away.
    """

    def __init__(
        self, lives: Callable[[], Iterable[Life]], connections: Callable[[], Mapping[str, int] | None]
    ) -> None:
        self.samples: Samples = {}
        self._lives, self._connections = lives, connections

    def look(self) -> None:
        """Take one sample of each."""
        for life in self._lives():
            with suppress(psutil.Error):
                process = psutil.Process(life.pid)
                self._note(life, "megabytes", process.memory_info().rss / MEGABYTE)
                self._note(life, "descriptors", process.num_fds())
        for role, sessions in (self._connections() or {}).items():
            self._note(Life(role, 0), "connections", sessions)

    def _note(self, life: Life, what: str, value: float) -> None:
        self.samples.setdefault((life, what), []).append(value)


def curves(samples: Samples) -> dict[str, list[float]]:
    """Return the series that are long enough to be judged, under the name of what was measured."""
    return {
        f"{_name(life)}, {what}": [round(value, 1) for value in series]
        for (life, what), series in samples.items()
        if len(series) >= SAMPLES_MIN
    }


def grown(samples: Samples) -> list[str]:
    """Return what grew: the median of the last third against that of the first."""
    found = []
    for (life, what), series in samples.items():
        first, last = thirds(series)
        factor, more = ALLOWED[what]
        if len(series) >= SAMPLES_MIN and last > factor * first + more:
            found.append(f"{_name(life)}: {first:.0f} {what}, then {last:.0f}")
    return found


def thirds(series: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first and the last third."""
    third = max(1, len(series) // 3)
    return median(series[:third]), median(series[-third:])


def _name(life: Life) -> str:
    return f"{life.name} (pid {life.pid})" if life.pid else life.name
