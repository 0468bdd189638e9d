"""Processes that run the app under test: start them, stop them, kill them; none outlives its trial."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from onceloop.testing import plan
from onceloop.testing.facts import Ended
from onceloop.testing.guardian import Guardian

STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
LAST_LINES = 12


class MissedError(AssertionError):
    """A trial waited in vain: what it was about did not happen."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waits for conditions, as long as pytest does not end."""

    stopping: Event

    def __call__(
        self, condition: Callable[[], bool], *, seconds: float, what: str, member: "Member | None" = None
    ) -> None:
        """Wait until the condition holds. Raises MissedError if it does not in time, or `member` has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            ended = member is not None and member.code() is not None and not condition()
            if ended or self.stopping.is_set() or time.monotonic() > deadline:
                said = f"\n{member.last_lines()}" if member else ""
                raise MissedError(f"did not happen within {seconds:.0f} s: {what}{said}")
            time.sleep(POLL_SECONDS)


class Member:
    """One process. `expected`: the exit codes with which it may end, set by the trial."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, wait_until: Waiting) -> None:
        self.name = name
        self.log = log
        self.expected: frozenset[int] = frozenset({0})
        self._process = process
        self._wait_until = wait_until

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def code(self) -> int | None:
        """Return its exit code, None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def output(self) -> str:
        """Return all it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def killed(self, *, seconds: float) -> None:
        """Wait until SIGKILL has ended it; raise MissedError if something else did, or nothing."""
        self._wait_until(lambda: self.code() is not None, seconds=seconds, what=f"{self.name} kills itself")
        if self.code() != -signal.SIGKILL:
            raise MissedError(f"{self.name} ended with {self.code()} before it was killed\n{self.last_lines()}")
        self.expected = frozenset({-signal.SIGKILL})

    def frozen(self, *, seconds: float) -> None:
        """Wait until it stands still: SIGCONT before SIGSTOP would be lost, and the process never go on."""
        self._wait_until(self._stands_still, seconds=seconds, what=f"{self.name} stops itself")

    def _stands_still(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WUNTRACED | os.WNOHANG)
        if pid and not os.WIFSTOPPED(status):
            self._process.returncode = os.waitstatus_to_exitcode(status)  # it is reaped now: Popen cannot ask again
            raise MissedError(f"{self.name} ended with {self.code()} instead of stopping\n{self.last_lines()}")
        return pid != 0

    def thaw(self) -> None:
        """Let a stopped process go on."""
        self._send(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self._send(signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to end, and wait; kill it if it does not."""
        self.ask_to_stop()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it now, if it still runs."""
        self._send(signal.SIGKILL)
        self._process.wait()

    def ended(self) -> Ended:
        """Return how it ended."""
        return Ended(self.name, self._process.wait(), self.expected, self.last_lines())

    def last_lines(self) -> str:
        """Return the end of its output."""
        return "\n".join(self.output().splitlines()[-LAST_LINES:])

    def _send(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


class Members:
    """The processes of one trial."""

    def __init__(self, folder: Path, guardian: Guardian, stopping: Event) -> None:
        self._folder = folder
        self._guardian = guardian
        self._stopping = stopping
        self.wait_until = Waiting(stopping)
        self.all: list[Member] = []
        self.plan, self.evidence = folder / "plan.json", folder / "evidence.jsonl"

    def arm(self, *arms: plan.Arm) -> None:
        """Have the processes that start from now on act at these points."""
        plan.write(self.plan, arms)

    def start(self, arguments: Sequence[str], *, slot: int) -> Member:
        """Start `python -m onceloop.testing.launch arguments`."""
        name = f"process {len(self.all) + 1} (slot {slot})"
        log = self._folder / f"process-{len(self.all) + 1}.log"
        command = [sys.executable, "-m", "onceloop.testing.launch", *arguments, "--slot", str(slot)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--plan", str(self.plan), "--evidence", str(self.evidence)],
                stdin=self._guardian.pipe,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C in the terminal is for pytest
            )
        member = Member(name, process, log, self.wait_until)
        self.all.append(member)
        return member

    def any_runs(self) -> bool:
        """Return True if a process runs. Raises MissedError if pytest ends."""
        if self._stopping.is_set():
            raise MissedError("did not happen: pytest ends")
        return any(member.code() is None for member in self.all)

    def stopped_at(self, arm: plan.Arm, member: Member, *, seconds: float) -> None:
        """Wait until the process has reached the point and stands still; raise MissedError if it does not."""
        what = f"{member.name} passes the point {arm.point}"
        self.wait_until(lambda: plan.fired(self.evidence, arm), seconds=seconds, what=what, member=member)
        member.frozen(seconds=seconds)

    def close(self) -> None:
        """Kill what still runs."""
        for member in self.all:
            member.kill()
            self._guardian.strike_off(member.pid)
