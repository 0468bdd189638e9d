"""How processes lived through a run: what L3 and L4 say of their starts, ends and stops. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from chaos.faults import Hurts
from chaos.run.processes import Slot, Stopped
from onceloop.errors import ExitCode

READY_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 5.0
DISRUPTIVE = frozenset({Hurts.WORKERS, Hurts.WIRE, Hurts.BROKER, Hurts.DATABASE, Hurts.MACHINE})

FORESEEN = frozenset({int(ExitCode.UNAVAILABLE)})
"""What a process says that ends itself: fenced, or a server away for too long."""


@dataclass(frozen=True, slots=True)
class Course:
    """What was hurt from when to when, by the monotonic clock."""

    active: list[tuple[Hurts, float, float]] = field(default_factory=list)

    def disturbed(self, since: float, until: float) -> bool:
        """Return True if a fault that can hold a start up fell between these moments, or shortly before."""
        return self._hurt(DISRUPTIVE, since - STOP_SECONDS_MAX, until)

    def servers_disturbed(self, since: float, until: float) -> bool:
        """Return True if servers or wires were hurt then, or shortly before; a stop is a fault of workers itself."""
        return self._hurt(DISRUPTIVE - {Hurts.WORKERS}, since - 2 * STOP_SECONDS_MAX, until)

    def _hurt(self, kinds: Collection[Hurts], since: float, until: float) -> bool:
        return any(hurts in kinds and begun < until and since < ended for hurts, begun, ended in self.active)


CALM = Course()
"""Nothing was hurt."""


def unasked_ends(slots: Iterable[Slot], *, killed: Collection[int], foreseen: Collection[int] = ()) -> list[str]:
    """Return the ends that no fault brought about. `killed`: process ids; `foreseen`: exit codes that are excused."""
    return [
        f"L3: {slot} ended with {death.code}, which no fault asked for"
        for slot in slots
        for death in slot.deaths
        if death.pid not in killed and death.code not in foreseen
    ]


def ends_at_rest(slots: Iterable[Slot], *, since: float) -> list[str]:
    """Return the ends since nothing was hurt any more, which was at `since` by the monotonic clock."""
    return [
        f"L3: {slot} ended although nothing was hurt any more"
        for slot in slots
        if any(death.at > since for death in slot.deaths)
    ]


def slow_starts(slots: Iterable[Slot], course: Course = CALM) -> list[str]:
    """Return the starts that took too long without a fault that explains it."""
    return [
        f"L3: {slot} was ready after {start.seconds:.1f} s, although nothing held it up"
        for slot in slots
        for start in slot.starts
        if start.seconds > READY_SECONDS_MAX and not course.disturbed(start.began, start.ready)
    ]


def bad_stops(stops: Iterable[Stopped], course: Course = CALM, *, killed: Collection[int] = ()) -> list[str]:
    """Return the stops that took too long or ended with a failure, without a fault that explains it.

    A kill that was armed before may meet a process on its last record, while it is asked to stop.
    """
    return [
        f"L4: {stop.name} took {stop.seconds:.1f} s to stop, with exit code {stop.code}"
        for stop in stops
        if (stop.seconds > STOP_SECONDS_MAX or stop.code != 0)
        and stop.pid not in killed
        and not course.servers_disturbed(stop.at, stop.at + stop.seconds)
    ]
