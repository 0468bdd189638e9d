"""How processes lived through a battle: what L3 and L4 say of their starts, ends and stops. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos.faults import Hurts, Stopped
from chaos.run.pipeline import Kept
from onceloop.errors import ExitCode

READY_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 5.0
DISRUPTIVE = frozenset({Hurts.WORKERS, Hurts.WIRE, Hurts.BROKER, Hurts.DATABASE, Hurts.MACHINE})

_FORESEEN = frozenset({int(ExitCode.UNAVAILABLE)})
"""What a process says that ends itself: fenced, or a server away for too long."""


@dataclass(slots=True)
class Course:
    """What was done when. Times in seconds from the start of the load."""

    faults: list[dict[str, Any]] = field(default_factory=list)
    voids: list[str] = field(default_factory=list)
    active: list[tuple[Hurts, float, float]] = field(default_factory=list)
    """What was hurt from when to when, by the monotonic clock."""

    def disturbed(self, since: float, until: float) -> bool:
        """Return True if a fault that can hold a start up fell between these moments, or shortly before."""
        return self._hurt(DISRUPTIVE, since - STOP_SECONDS_MAX, until)

    def servers_disturbed(self, since: float, until: float) -> bool:
        """Return True if servers or wires were hurt then, or shortly before; a stop is a fault of workers itself."""
        return self._hurt(DISRUPTIVE - {Hurts.WORKERS}, since - 2 * STOP_SECONDS_MAX, until)

    def _hurt(self, kinds: Collection[Hurts], since: float, until: float) -> bool:
        return any(hurts in kinds and begun < until and since < ended for hurts, begun, ended in self.active)


def unasked_ends(everyone: Iterable[Kept], *, ended_by_faults: Collection[int]) -> list[str]:
    """Return the ends that no fault brought about and that no process meant. `ended_by_faults`: process ids."""
    return [
        f"{kept.name} {kept.slot} ended with {death.code}, which no fault asked for"
        for kept in everyone
        for death in kept.deaths
        if death.pid not in ended_by_faults and death.code not in _FORESEEN
    ]


def ends_at_rest(everyone: Iterable[Kept], *, since: float) -> list[str]:
    """Return the ends since nothing was hurt any more, which was at `since` by the monotonic clock."""
    return [
        f"L3: {kept.name} {kept.slot} ended although nothing was hurt any more"
        for kept in everyone
        if any(death.at > since for death in kept.deaths)
    ]


def slow_starts(everyone: Iterable[Kept], course: Course) -> list[str]:
    """Return the starts that took too long without a fault that explains it."""
    return [
        f"L3: {kept.name} {kept.slot} was ready after {start.seconds:.1f} s, although nothing held it up"
        for kept in everyone
        for start in kept.starts
        if start.seconds > READY_SECONDS_MAX and not course.disturbed(start.began, start.ready)
    ]


def bad_stops(stops: Iterable[Stopped], course: Course, *, ended_by_faults: Collection[int]) -> list[str]:
    """Return the stops that took too long or ended with a failure, without a fault that explains it.

    A kill that was armed before may meet a process on its last record, while it is asked to stop.
    """
    return [
        f"L4: {stop.name} took {stop.seconds:.1f} s to stop, with exit code {stop.code}"
        for stop in stops
        if (stop.seconds > STOP_SECONDS_MAX or stop.code != 0)
        and stop.pid not in ended_by_faults
        and not course.servers_disturbed(stop.at, stop.at + stop.seconds)
    ]
