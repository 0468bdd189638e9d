"""Outlive the supervisor: when it is gone, however it went, end every process it had started.

The guardian is a small process that reads a pipe. A child gets the writing end as its standard input, writes its own
pid, and only then becomes its program. So the end of file, which is the supervisor's death, can only be seen after
every child that exists is on the list: no moment is left in which a kill could make an orphan. (The kernel's own
parent-death signal is Linux's alone and is lost when PostgreSQL's process changes its user.)

A pid counts only together with its start time, so that a recycled one is never signalled.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

GRACE_SECONDS = 4.0
_POLL_SECONDS = 0.05
_ENLIST = 'echo "+ $$ $0" >&0 && exec "$@" </dev/null'
"""For /bin/sh: say who we are into the standard input, which is the pipe, then become the program."""


class Guardian:
    """The supervisor's side: start the guardian, and report to it which processes came and went."""

    def __init__(self, *, inherit: Iterable[int] = ()) -> None:
        """Start it. It keeps the descriptors of `inherit` open: the home's lock, until the leftovers are gone."""
        self._inherit = tuple(inherit)
        self._process, self.pipe = self._start()

    @property
    def pid(self) -> int:
        """The guardian's own pid."""
        return self._process.pid

    def enlisting(self, argv: Iterable[str], stop_signal: int) -> tuple[str, ...]:
        """Return the command that puts itself on the list and becomes `argv`; its standard input must be `pipe`."""
        return ("/bin/sh", "-c", _ENLIST, str(int(stop_signal)), *argv)

    def strike_off(self, pid: int) -> None:
        """Take an ended process off the list."""
        self._write("-", pid, 0)

    def revive(self, wards: Iterable[tuple[int, int]]) -> None:
        """Start another if it was killed; `wards` are the pids that live, with their stop signals.

        They are on its list from its first moment: the supervisor may be the next to be killed.
        """
        if self._process.poll() is None:
            return
        os.close(self.pipe)
        self._process, self.pipe = self._start(wards)

    def close(self) -> None:
        """Let the guardian end whatever is still on the list, and wait for it."""
        os.close(self.pipe)
        self._process.wait()

    def _start(self, wards: Iterable[tuple[int, int]] = ()) -> tuple[subprocess.Popen[bytes], int]:
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, *(f"{pid}:{int(stop_signal)}" for pid, stop_signal in wards)],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=self._inherit,
            start_new_session=True,  # a Ctrl-C in the terminal is for the supervisor alone
        )
        os.close(reading)
        return process, writing

    def _write(self, verb: str, pid: int, stop_signal: int) -> None:
        with suppress(BrokenPipeError):  # `revive` comes soon
            os.write(self.pipe, f"{verb} {pid} {int(stop_signal)}\n".encode())


@dataclass(frozen=True, slots=True)
class _Ward:
    process: psutil.Process
    """Knows its start time: psutil refuses to signal a process that merely has the same pid."""
    stop_signal: int


def main() -> int:
    """Read the list until the pipe ends, then end what is on it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of the pipe ends us
    wards: dict[int, _Ward] = {}

    def take_in(pid: int, stop_signal: int) -> None:
        with suppress(psutil.NoSuchProcess):
            wards[pid] = _Ward(psutil.Process(pid), stop_signal)

    for each in sys.argv[1:]:
        take_in(*map(int, each.split(":")))
    for line in sys.stdin.buffer:
        verb, pid, stop_signal = line.split()
        if verb == b"-":
            wards.pop(int(pid), None)
        else:
            take_in(int(pid), int(stop_signal))
    _end(wards.values())
    return 0


def _end(wards: Iterable[_Ward]) -> None:
    """Ask all, newest first; after the grace kill the process groups of those that stayed."""
    asked = [ward for ward in reversed(tuple(wards)) if ward.process.is_running()]
    for ward in asked:
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            ward.process.send_signal(ward.stop_signal)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and any(lives(ward.process) for ward in asked):
        time.sleep(_POLL_SECONDS)
    for ward in asked:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(ward.process.pid, signal.SIGKILL)  # the group outlives its leader as long as a member lives


def lives(process: psutil.Process) -> bool:
    """Return whether the process runs; one that ended and waits for its parent to take note does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


if __name__ == "__main__":
    sys.exit(main())
