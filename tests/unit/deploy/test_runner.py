from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from deploy.local import home as homes
from deploy.local.supervise import runner as runners
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.runner import Runner, State, pause_seconds, raise_failure, tick_until_settled
from onceloop.errors import ReportedError


class Command:
    """A program that only prepares, and fails to as often as it is asked to."""

    name = "provision"
    slot = None

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.times = 0

    def prepare(self) -> Iterator[Launch]:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        yield from ()

    def launch(self) -> Launch | None:
        return None

    def ready(self) -> bool:
        return True


def make_runner(folder: Path, command: Command, *, needs: tuple[Runner, ...] = (), attempts_max: int = 1) -> Runner:
    no_guardian = cast(Guardian, None)  # no process is started here
    return Runner(command, homes.at(folder), no_guardian, needs=needs, attempts_max=attempts_max)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(runners, "TICK_SECONDS", 0.0)


def test_program_waits_for_what_it_needs(tmp_path: Path) -> None:
    first = make_runner(tmp_path, Command())
    second = make_runner(tmp_path, Command(), needs=(first,))
    second.tick()
    assert second.state is State.WAITING
    tick_until_settled([second, first])
    assert (first.state, second.state) == (State.READY, State.READY)


@pytest.mark.parametrize("error", [ReportedError("no database"), OSError(28, "No space left on device")])
def test_failed_preparation_ends_the_start(tmp_path: Path, error: Exception) -> None:
    runner = make_runner(tmp_path, Command(error))
    runner.tick()
    assert runner.state is State.FAILED
    with pytest.raises(ReportedError, match=r"no database|No space left"):
        raise_failure([runner])


def test_program_is_tried_as_often_as_it_may(tmp_path: Path) -> None:
    command = Command(ReportedError("one"), ReportedError("two"))
    runner = make_runner(tmp_path, command, attempts_max=3)
    tick_until_settled([runner])
    assert (runner.state, runner.restarts, command.times) == (State.READY, 2, 3)


def test_program_that_was_up_is_started_again_for_ever(tmp_path: Path) -> None:
    """A dependency may be away for long: what was up once must come back with it, without anybody's help."""
    command = Command(*(ReportedError("away") for _ in range(20)))
    runner = make_runner(tmp_path, command)
    runner._was_ready = True
    tick_until_settled([runner])
    assert (runner.state, runner.restarts) == (State.READY, 20)


class Slow(Command):
    """A program whose process gets ready after so many looks."""

    def __init__(self, log: Path, *, after: int) -> None:
        super().__init__()
        self._launch = Launch(argv=("slow",), log=log)
        self._looks_left = after

    def launch(self) -> Launch | None:
        return self._launch

    def ready(self) -> bool:
        self._looks_left -= 1
        return self._looks_left < 0


class Process:
    """Stands in for a process that runs until it is killed."""

    pid = 7

    def __init__(self, launch: Launch, _guardian: object) -> None:
        self.launch = launch
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.code = -9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, which goes on by ten seconds with each tick, and in which a process computes for none."""
    now = [1000.0]
    monkeypatch.setattr("deploy.local.supervise.runner.time.monotonic", lambda: now[0])
    monkeypatch.setattr(runners, "Child", Process)
    monkeypatch.setattr(runners, "cpu_seconds", lambda _pid: 0.0)
    return now


def test_start_of_a_process_that_computes_is_waited_for_and_reported(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was given up after 90 s, however busy the machine was."""
    monkeypatch.setattr(runners, "cpu_seconds", lambda _pid: (clock[0] - 1000.0) / 20)
    runner, reported = make_runner(tmp_path, Slow(tmp_path / "slow.log", after=50)), set[str]()
    while not runner.settled:
        runner.tick()
        reported.add(runner.waits)
        clock[0] += 10
    assert runner.state is State.READY
    assert clock[0] > 1400
    assert "starting for 300 s: it is using the CPU" in reported
    assert runner.waits == ""


def test_start_of_a_process_that_does_nothing_is_given_up_and_says_so(tmp_path: Path, clock: list[float]) -> None:
    runner = make_runner(tmp_path, Slow(tmp_path / "slow.log", after=50))
    while not runner.settled:
        runner.tick()
        clock[0] += 10
    assert clock[0] < 1130
    assert runner.error is not None
    assert "logged nothing and used no CPU" in runner.error.message


def test_halted_program_starts_no_more(tmp_path: Path) -> None:
    command = Command()
    runner = make_runner(tmp_path, command)
    assert runner.halt() is None
    runner.tick()
    assert (runner.state, command.times) == (State.STOPPED, 0)


def test_pause_doubles_from_the_first_up_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "PAUSE_SECONDS", 0.3)
    assert [pause_seconds(count) for count in (1, 2, 3)] == [0.3, 0.6, 1.2]
    assert pause_seconds(50) == 10.0
