"""Stop a stack from another terminal, and remove its data if asked to."""

import shutil
import signal
import time
from contextlib import suppress

import psutil

from common.errors import ConfigError
from deploy.local import home as homes
from deploy.local import state
from deploy.local.home import Home
from deploy.local.process import signal_tree
from deploy.local.state import StackState

PATIENCE_SECONDS = 20.0
_POLL_SECONDS = 0.1
_ENTRIES = (
    *("kafka", "postgres", "postgres.making", "secrets", "logs"),
    *("kafka.properties", "ports.json", "state.json", "lock", ".gitignore"),
)
"""All that a stack writes into its folder: what else lies there is not ours to remove."""


def stop(home: Home) -> bool:
    """Stop the stack and wait until nothing of it is left; return whether anything ran.

    Raise `ConfigError` when there never was a stack, `HomeInUseError` when it does not go.
    """
    if not home.root.is_dir():
        raise ConfigError(f"no stack in {home.root}", cure="name its folder: --home DIR or PIPELINE_HOME")
    stack = state.read(home)
    ran = False
    if stack is not None:
        ran = _end_supervisor(stack) or _end_leftovers(stack)
    with homes.owned(home, patience_seconds=PATIENCE_SECONDS):
        return ran


def remove_data(home: Home) -> None:
    """Remove what the stack wrote; the folder itself too, unless somebody put more there. Nothing may run."""
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
        try:
            supervisor.wait(PATIENCE_SECONDS)
        except psutil.TimeoutExpired:
            supervisor.kill()
    return True


def _end_leftovers(stack: StackState) -> bool:
    """Kill recorded processes that survived supervisor and guardian."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    left = [each for each in stack.processes if state.find(each.pid, each.started_at)]
    for each in left:
        signal_tree(each.pid, signal.SIGKILL)
    while any(state.find(each.pid, each.started_at) for each in left) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return bool(left)
