"""What a loop reports while it runs, and to whom: silent unless an observer is handed in.

Log events are `noun.verb_past` with fields; metrics are values of `onceloop.metrics`. Adapters for structlog and for
Prometheus stand in modules of their own, each behind an extra.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

Level = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name in base units, what it says, and the names of its labels.

    `buckets`: upper bounds, of a histogram. `across_processes`: how a gauge is put together for a service that is
    several processes.
    """

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    documentation: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    across_processes: Literal["livesum", "livemax"] = "livesum"


class Observer(Protocol):
    """Receives what is reported, in the loop's own thread: its methods return at once and raise nothing."""

    def log(self, level: Level, event: str, /, **fields: object) -> None:
        """Take one log event; the field `exc_info` is the exception whose traceback belongs to it."""

    def count(self, counter: Metric, /, *labels: str, by: float = 1) -> None:
        """Add to a counter."""

    def set(self, gauge: Metric, value: float, /, *labels: str) -> None:
        """Set a gauge."""

    def forget(self, gauge: Metric, /, *labels: str) -> None:
        """Drop a gauge's value for these labels: what it was about is gone."""

    def measure(self, histogram: Metric, value: float, /, *labels: str) -> None:
        """Add a value to a histogram."""


class Silent:
    """The observer that says nothing. Also a base for those that care for a part alone."""

    def log(self, level: Level, event: str, /, **fields: object) -> None:
        """Say nothing."""

    def count(self, counter: Metric, /, *labels: str, by: float = 1) -> None:
        """Count nothing."""

    def set(self, gauge: Metric, value: float, /, *labels: str) -> None:
        """Set nothing."""

    def forget(self, gauge: Metric, /, *labels: str) -> None:
        """Forget nothing."""

    def measure(self, histogram: Metric, value: float, /, *labels: str) -> None:
        """Measure nothing."""


class Observers:
    """Hands everything on to several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def log(self, level: Level, event: str, /, **fields: object) -> None:
        """Hand on a log event."""
        for each in self._observers:
            each.log(level, event, **fields)

    def count(self, counter: Metric, /, *labels: str, by: float = 1) -> None:
        """Hand on a count."""
        for each in self._observers:
            each.count(counter, *labels, by=by)

    def set(self, gauge: Metric, value: float, /, *labels: str) -> None:
        """Hand on a gauge's value."""
        for each in self._observers:
            each.set(gauge, value, *labels)

    def forget(self, gauge: Metric, /, *labels: str) -> None:
        """Hand on that a gauge's value is gone."""
        for each in self._observers:
            each.forget(gauge, *labels)

    def measure(self, histogram: Metric, value: float, /, *labels: str) -> None:
        """Hand on a histogram's value."""
        for each in self._observers:
            each.measure(histogram, value, *labels)


SILENT: Observer = Silent()
