"""L3 and L4 judge processes, and excuse what a fault explains, and nothing else."""

from pathlib import Path

import pytest

from chaos.faults import Hurts
from chaos.lives import FORESEEN, Course, bad_stops, ends_at_rest, slow_starts, unasked_ends
from chaos.run.processes import Death, Slot, Start, Stopped
from onceloop.errors import ExitCode

PID, BEGAN = 42, 100.0


def make_slot(*, starts: list[Start] | None = None, deaths: list[Death] | None = None) -> Slot:
    def never_started(_: object) -> None:
        raise AssertionError

    return Slot(
        service="inventory",
        number=0,
        start=never_started,  # type: ignore[arg-type] # none is started here
        port=0,
        log=Path("inventory-0.log"),
        starts=starts or [],
        deaths=deaths or [],
    )


def make_stop(*, seconds: float = 0.1, code: int | None = 0) -> Stopped:
    return Stopped("inventory 0", PID, BEGAN, seconds, code)


@pytest.mark.parametrize("stop", [make_stop(code=-9), make_stop(code=1), make_stop(seconds=5.1)])
def test_stop_that_fails_or_takes_too_long_is_a_complaint(stop: Stopped) -> None:
    assert len(bad_stops([stop], Course(), killed={PID + 1})) == 1


def test_stop_in_order_is_none() -> None:
    assert bad_stops([make_stop(seconds=4.9)], Course(), killed=()) == []


def test_stop_of_a_process_that_a_fault_killed_meanwhile_is_none() -> None:
    assert bad_stops([make_stop(code=-9)], Course(), killed={PID}) == []


@pytest.mark.parametrize(
    ("hurts", "excused"), [(Hurts.DATABASE, True), (Hurts.WIRE, True), (Hurts.WORKERS, False), (Hurts.METRICS, False)]
)
def test_stop_is_excused_by_what_fell_on_servers_and_wires_alone(hurts: Hurts, *, excused: bool) -> None:
    course = Course(active=[(hurts, BEGAN - 5, BEGAN - 1)])
    assert (bad_stops([make_stop(seconds=6.0)], course, killed=()) == []) is excused


@pytest.mark.parametrize(
    ("start", "late"),
    [
        (Start(BEGAN, BEGAN + 10.5, 0.0), True),
        (Start(BEGAN, BEGAN + 12.0, 5.0), False),
        (Start(BEGAN, BEGAN + 9.9, 0.0), False),
    ],
)
def test_start_is_late_by_the_time_that_it_had_a_cpu(start: Start, *, late: bool) -> None:
    assert bool(slow_starts([make_slot(starts=[start])], Course())) is late


def test_start_is_excused_by_a_fault_that_ended_shortly_before_and_by_no_later_one() -> None:
    slot = make_slot(starts=[Start(BEGAN, BEGAN + 11.0, 0.0)])
    assert slow_starts([slot], Course(active=[(Hurts.BROKER, BEGAN - 9, BEGAN - 4)])) == []
    assert len(slow_starts([slot], Course(active=[(Hurts.BROKER, BEGAN + 12, BEGAN + 13)]))) == 1


def test_end_needs_a_fault_or_a_reason_that_the_process_names() -> None:
    deaths = [Death(1, -9, BEGAN), Death(2, int(ExitCode.UNAVAILABLE), BEGAN), Death(3, 1, BEGAN)]
    complaints = unasked_ends([make_slot(deaths=deaths)], killed={1}, foreseen=FORESEEN)
    assert complaints == ["L3: inventory 0 ended with 1, which no fault asked for"]


def test_end_after_everything_was_healed_is_a_complaint_whatever_its_reason() -> None:
    slot = make_slot(deaths=[Death(2, int(ExitCode.UNAVAILABLE), BEGAN)])
    assert len(ends_at_rest([slot], since=BEGAN - 1)) == 1
    assert ends_at_rest([slot], since=BEGAN + 1) == []
