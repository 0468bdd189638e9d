"""What runs, as one small file: written by the supervisor, read by the commands in other terminals."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

import psutil

from deploy.local.home import Home, write_atomically
from deploy.local.supervise.runner import State

_START_TOLERANCE_SECONDS = 2.0
"""Start times are reckoned from the boot time, which moves a little when the clock is set."""


class Phase(StrEnum):
    """Where the stack as a whole stands."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process. `pid` is 0 while there is none; a later process with the same pid differs in `started_at`."""

    label: str
    name: str
    slot: int | None
    state: State
    pid: int
    started_at: float
    restarts: int
    port: int | None = None
    """Of its health, where it has one."""
    http_port: int | None = None
    """For clients, where it serves some."""
    waits: str = ""
    """How its start goes, if that takes long."""


@dataclass(frozen=True, slots=True)
class StackState:
    """The whole stack. `pid` and `started_at` are the supervisor's."""

    phase: Phase
    pid: int
    started_at: float
    ports: Mapping[str, int] = field(default_factory=dict)
    processes: tuple[ProcessState, ...] = ()
    error: str = ""
    cure: str = ""
    parts: tuple[str, ...] = ()
    """The optional parts that were asked for."""
    services: tuple[str, ...] = ()
    """The folders of the services that were added."""


def write(home: Home, state: StackState) -> None:
    """Replace the file in one step."""
    write_atomically(home.state, json.dumps(asdict(state), indent=2) + "\n")


def read(home: Home) -> StackState | None:
    """Return what the file says, or None when there is none that can be read. It may outlive its supervisor."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        fields = json.loads(home.state.read_text(encoding="utf-8"))
        processes = tuple(ProcessState(**{**each, "state": State(each["state"])}) for each in fields.pop("processes"))
        parts, services = tuple(fields["parts"]), tuple(fields.get("services", ()))
        parsed = {"phase": Phase(fields["phase"]), "parts": parts, "services": services, "processes": processes}
        return StackState(**{**fields, **parsed})
    return None


def current(home: Home) -> StackState | None:
    """Return what runs now: when the supervisor is gone, so is the stack, whatever the file says."""
    stack = read(home)
    if stack is None or find(stack.pid, stack.started_at) is not None:
        return stack
    phase = stack.phase if stack.phase is Phase.FAILED else Phase.STOPPED
    gone = tuple(replace(each, state=State.STOPPED, pid=0) for each in stack.processes)
    return replace(stack, phase=phase, pid=0, processes=gone)


def find(pid: int, started_at: float) -> psutil.Process | None:
    """Return the process if it still is the one that had the pid then."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if pid and abs(process.create_time() - started_at) < _START_TOLERANCE_SECONDS:
            return None if process.status() == psutil.STATUS_ZOMBIE else process
    return None
