"""Bring one program of the stack up, keep it up, take it down: a state machine that its owner ticks.

Nothing blocks for long and no thread is involved: every tick looks once and goes one step, so that one loop starts
many programs side by side, and a Ctrl-C finds all of them in a known state.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from deploy.local.home import Home
from deploy.local.supervise import logs
from deploy.local.supervise.diagnosis import PortTakenError, StartError, explain
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Launch, Program, label
from deploy.local.supervise.process import Child, cpu_seconds
from deploy.local.supervise.progress import Look, Progress
from onceloop.errors import ExitCode, ReportedError

TICK_SECONDS = 0.05
LOOK_SECONDS = 5.0
"""Between two looks at what a starting process does: each is a walk over all processes."""
PAUSE_SECONDS = 0.3
PAUSE_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0
"""After so long up, an exit counts as the first again."""


class State(StrEnum):
    """Where a program stands."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    FAILED = "failed"


class Runner:
    """One program, its process, and how often that was started again."""

    def __init__(
        self, program: Program, home: Home, guardian: Guardian, *, needs: Sequence["Runner"] = (), attempts_max: int = 1
    ) -> None:
        """Wait for `needs` to be ready. Fail when `attempts_max` starts in a row never got ready."""
        self.program, self.label = program, label(program)
        self.log = home.log(self.label)
        self.state = State.WAITING
        self.restarts = 0
        self.error: ReportedError | None = None
        self.child: Child | None = None
        self._guardian, self._needs, self._attempts_max = guardian, needs, attempts_max
        self._preparation: Iterator[Launch] = iter(())
        self._progress = Progress(time.monotonic())
        self._looked_at = 0.0
        self._log_offset = 0
        self._since = time.monotonic()
        self._was_ready = False
        self._ends_in_a_row = 0

    @property
    def settled(self) -> bool:
        """Return whether a start has come to its end, good or bad."""
        return self.state in {State.READY, State.FAILED}

    @property
    def waits(self) -> str:
        """Say how a start goes that takes long; empty while there is nothing to say."""
        return self._progress.report(time.monotonic()) if self.state in {State.PREPARING, State.STARTING} else ""

    def tick(self) -> None:
        """Look once and go one step."""
        try:
            self._step()
        except ReportedError as error:
            self._note_end(error)
        except OSError as error:  # a full disk, a file that is not ours: reported like any other failed start
            self._note_end(StartError(f"{self.label} cannot be started: {error}", cure="see `pipeline doctor`"))

    def halt(self) -> Child | None:
        """Start nothing any more; return the process that is left to be stopped."""
        self._preparation = iter(())
        self._enter(State.STOPPED)
        return self.child if self.child is not None and self.child.poll() is None else None

    def start_again(self) -> None:
        """Start from the beginning, after `halt` or a kill."""
        self._was_ready, self._ends_in_a_row, self.error = False, 0, None
        self._enter(State.WAITING)

    def _step(self) -> None:
        match self.state:
            case State.WAITING if all(each.state is State.READY for each in self._needs):
                self._begin()
            case State.PREPARING:
                self._go_on_preparing()
            case State.STARTING if self.child is not None:
                self._watch_start(self.child)
            case State.READY if self.child is not None:
                self._watch(self.child)
            case State.RESTARTING if self._seconds_here() >= pause_seconds(self._ends_in_a_row):
                self._enter(State.WAITING)
            case _:
                pass

    def _begin(self) -> None:
        logs.bound(self.log)
        self._log_offset = logs.size(self.log)
        self._preparation, self.child = self.program.prepare(), None
        self._enter(State.PREPARING)
        self._go_on_preparing()

    def _go_on_preparing(self) -> None:
        """Run the preparing commands one after the other, then start the process."""
        if self.child is not None and not self._ended_well(self.child):
            return
        if (command := next(self._preparation, None)) is not None:
            self._start(command)
        elif (process := self.program.launch()) is not None:
            self._start(process)
            self._enter(State.STARTING)
        else:
            self.child = None
            self._get_ready()

    def _start(self, launch: Launch) -> None:
        self.child = Child(launch, self._guardian)
        self._progress, self._looked_at = Progress(time.monotonic()), 0.0

    def _ended_well(self, command: Child) -> bool:
        code = command.poll()
        if code is None:
            self._give_up_when_late(command)
        elif code != 0:
            self._note_exit(code)
        return code == 0

    def _watch_start(self, child: Child) -> None:
        if (code := child.poll()) is not None:
            self._note_exit(code)
        elif self.program.ready():
            self._get_ready()
        else:
            self._give_up_when_late(child)

    def _watch(self, child: Child) -> None:
        if (code := child.poll()) is not None:
            if self._seconds_here() >= STEADY_SECONDS:
                self._ends_in_a_row = 0
            self._note_exit(code)

    def _get_ready(self) -> None:
        self._was_ready = True
        self._enter(State.READY)

    def _give_up_when_late(self, child: Child) -> None:
        """End a start that does not get on. How fast the machine is says nothing of that."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._progress.take(Look(now, logs.size(self.log), cpu_seconds(child.pid)))
        if complaint := self._progress.complaint(now):
            child.kill()
            self._note_exit(None, late=complaint)

    def _note_exit(self, code: int | None, *, late: str = "") -> None:
        error = explain(self.label, self.log, since=self._log_offset, code=code, late=late)
        for_good = code == ExitCode.CONFIG or (isinstance(error, PortTakenError) and not self._was_ready)
        self._note_end(error, for_good=for_good)

    def _note_end(self, error: ReportedError, *, for_good: bool = False) -> None:
        """Plan the next start, unless it would change nothing."""
        self._ends_in_a_row += 1
        if for_good or (not self._was_ready and self._ends_in_a_row >= self._attempts_max):
            self.error = error
            self._enter(State.FAILED)
        else:
            self.restarts += 1
            self._enter(State.RESTARTING)

    def _enter(self, state: State) -> None:
        self.state, self._since = state, time.monotonic()

    def _seconds_here(self) -> float:
        return time.monotonic() - self._since


def pause_seconds(ends_in_a_row: int) -> float:
    """Return how long to wait before the next start: doubling from the first, up to a ceiling."""
    return min(PAUSE_SECONDS_MAX, PAUSE_SECONDS * 2.0 ** max(0, ends_in_a_row - 1))


def tick_until_settled(runners: Iterable[Runner]) -> None:
    """Tick until all are ready; raise the error of the first that failed."""
    waiting = list(runners)
    while not all(runner.settled for runner in waiting):
        for runner in waiting:
            runner.tick()
        raise_failure(waiting)
        time.sleep(TICK_SECONDS)


def raise_failure(runners: Iterable[Runner]) -> None:
    """Raise the error of a runner that failed, if one did."""
    for runner in runners:
        if runner.error is not None:
            raise runner.error
