"""A whole stack of a command's own, as `pipeline up` runs it, for the length of a block."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from deploy.cli.throwaway import Throwaway
from deploy.local.fetch import jars
from deploy.local.home import Home
from deploy.local.stack import state
from deploy.local.stack.state import Phase, StackState
from deploy.local.stack.view import PlainView
from deploy.local.supervise import logs
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.process import Child
from deploy.local.supervise.runner import State
from onceloop.errors import ExitCode, ReportedError

STOP_SECONDS_MAX = 15.0
POLL_SECONDS = 0.1


class NotUpError(ReportedError):
    """The stack did not come up."""

    exit_code = ExitCode.UNAVAILABLE


@contextmanager
def running(place: Throwaway, console: Console, *options: str) -> Iterator[StackState]:
    """Run `pipeline up` with these options; yield what runs once all is ready, and stop it at the end.

    Raises NotUpError.
    """
    jars.ensure(open_progress=PlainView(console, place.home).open_progress)
    argv = (sys.executable, "-m", "deploy.cli.main", "up", "--home", str(place.home.root), *options)
    supervisor = Child(Launch(argv=argv, log=place.home.log("supervisor")), place.guardian)
    try:
        with console.status("starting") as line:
            stack = _await_ready(supervisor, place.home, line.update)
        yield stack
    finally:
        supervisor.ask_to_stop()
        with console.status("stopping"):
            supervisor.wait(STOP_SECONDS_MAX)
        supervisor.kill()


def _await_ready(supervisor: Child, home: Home, report: Callable[[str], None]) -> StackState:
    """Return what runs once all of it is ready. The supervisor gives up what does not get on, and ends."""
    while True:  # bounded by the supervisor: it gives each process 15 minutes to start at most, and then ends itself
        stack = state.read(home)
        if stack is not None and stack.phase is Phase.READY:
            return stack
        if stack is not None:
            ready = [each.label for each in stack.processes if each.state is State.READY]
            slow = "".join(f"; {each.label} {each.waits}" for each in stack.processes if each.waits)
            report(f"starting, {len(ready)} of {len(stack.processes)} are ready: {', '.join(ready)}{slow}")
        if supervisor.poll() is not None:
            why = "\n".join(logs.last_lines(home.log("supervisor"), 5))
            raise NotUpError(f"the stack did not come up:\n{why}", cure="pipeline doctor")
        time.sleep(POLL_SECONDS)
