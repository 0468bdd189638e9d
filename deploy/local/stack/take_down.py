"""Stop a stack from another terminal, and remove its data if asked to."""

import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

from deploy.local import home as homes
from deploy.local.home import Home, NoStackError
from deploy.local.stack import state
from deploy.local.stack.state import StackState
from deploy.local.supervise.process import signal_tree

PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.1
_ENTRIES = (
    *("controller", "kafka", "postgres", "postgres.making", "connect", "prometheus", "schemas", "secrets", "logs"),
    *("tmp", "controller.properties", "kafka.properties", "ports.json", "format.json", "state.json", "verify.sqlite"),
    *("lock", ".gitignore"),
)
"""All that a stack writes into its folder: what else lies there is not ours to remove."""


def stop(home: Home) -> bool:
    """Stop the stack and wait until nothing of it is left; return whether anything ran.

    Raise `NoStackError` when there never was a stack, `HomeInUseError` when it does not go.
    """
    if not home.root.is_dir():
        raise NoStackError(home)
    stack = state.read(home)
    ran = False
    if stack is not None:
        ran = _end_supervisor(stack) or _end_leftovers(stack)
    with homes.owned(home, patience_seconds=PATIENCE_SECONDS):
        return ran


def remove_data(home: Home) -> None:
    """Remove what the stack wrote; the folder itself too, unless it holds other files. Nothing may run."""
    for path in (home.root / entry for entry in _ENTRIES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(OSError):
        home.root.rmdir()


def _end_supervisor(stack: StackState) -> bool:
    """Ask the supervisor to take everything down; one that does not answer is killed, and the guardian does it."""
    supervisor = state.find(stack.pid, stack.started_at)
    if supervisor is None:
        return False
    with suppress(psutil.NoSuchProcess):
        supervisor.send_signal(signal.SIGCONT)
        supervisor.terminate()
        if not _gone([(stack.pid, stack.started_at)]):
            supervisor.kill()
    return True


def _end_leftovers(stack: StackState) -> bool:
    """Kill recorded processes that survived supervisor and guardian."""
    left = [(each.pid, each.started_at) for each in stack.processes if state.find(each.pid, each.started_at)]
    for pid, _ in left:
        signal_tree(pid, signal.SIGKILL)
    return bool(left) and _gone(left)


def _gone(processes: Sequence[tuple[int, float]]) -> bool:
    """Wait until the processes have ended, whether or not their parents take note; return whether they did in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(state.find(*each) for each in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
