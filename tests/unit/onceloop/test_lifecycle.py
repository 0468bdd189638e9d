"""Signals set a flag; a second one, or a stop that outlasts its grace, ends the process. Real processes throughout."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onceloop.errors import ExitCode
from onceloop.lifecycle import Stop, stop_signal

REPOSITORY = Path(__file__).parents[3]

LOOPS = """
from onceloop.lifecycle import stop_signal
with stop_signal(grace_seconds={grace}) as stop:
    print("ready", flush=True)
    while not stop.wait(10):
        pass
    print("asked", flush=True)
{after}
print("ended", flush=True)
"""
LEAVES = "    pass"
HANGS_IN_PYTHON = """
    import time
    while True:
        time.sleep(0.01)
"""
HANGS_IN_C = """
    import ctypes
    ctypes.PyDLL(None).sleep(30)
"""
"""PyDLL keeps the interpreter's lock: no Python handler can run while it sleeps."""


@contextmanager
def started(after: str = LEAVES, *, grace: float = 30.0) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", LOOPS.format(after=after, grace=grace)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        try:
            assert line(process) == "ready"
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_asks_and_the_process_leaves_by_its_own_door(number: signal.Signals) -> None:
    with started() as process:
        process.send_signal(number)
        assert [line(process), line(process)] == ["asked", "ended"]
        assert process.wait(5) == 0


def test_second_signal_ends_the_process_at_once() -> None:
    with started(HANGS_IN_PYTHON) as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "asked"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == ExitCode.UNAVAILABLE


@pytest.mark.parametrize("hangs", [HANGS_IN_PYTHON, HANGS_IN_C], ids=["in Python", "in C"])
def test_stop_that_outlasts_its_grace_ends_by_the_kernels_alarm(hangs: str) -> None:
    with started(hangs, grace=0.3) as process:
        process.send_signal(signal.SIGTERM)
        assert line(process) == "asked"
        assert process.wait(5) == -signal.SIGALRM


def test_alarm_does_not_go_off_once_the_block_was_left() -> None:
    with stop_signal(grace_seconds=30) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_former_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_signal():
        assert signal.getsignal(signal.SIGTERM) is not before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_signal_never_becomes_an_exception_in_the_loop() -> None:
    with stop_signal() as stop:
        signal.raise_signal(signal.SIGINT)  # Python's own handler would raise KeyboardInterrupt here
        assert stop()


def test_wait_ends_as_soon_as_a_stop_is_asked_for() -> None:
    stop = Stop()
    stop.set()
    started_at = time.monotonic()
    assert stop.wait(10)
    assert time.monotonic() - started_at < 1


def test_wait_that_is_never_ended_says_so() -> None:
    assert not Stop().wait(0.01)
