import os
from pathlib import Path

import psutil
import pytest

from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.stack import state
from deploy.local.stack.state import Phase, ProcessState, StackState
from deploy.local.supervise.runner import State


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return homes.at(tmp_path)


def make_stack(*, pid: int, started_at: float) -> StackState:
    process = ProcessState("kafka", "kafka", None, State.READY, pid, started_at, restarts=1)
    return StackState(Phase.READY, pid, started_at, {"kafka": 9092}, (process,))


def this_process() -> StackState:
    return make_stack(pid=os.getpid(), started_at=psutil.Process().create_time())


def test_state_reads_back_what_was_written(home: Home) -> None:
    state.write(home, this_process())
    assert state.read(home) == this_process()
    assert state.current(home) == this_process()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"phase": "odd", "processes": []}'])
def test_unreadable_state_is_no_state(home: Home, text: str) -> None:
    home.state.write_text(text, encoding="utf-8")
    assert state.read(home) is None


def test_recycled_pid_is_not_taken_for_the_process(home: Home) -> None:
    """Our own pid, but started at another time: that is what a recycled pid looks like."""
    recycled = make_stack(pid=os.getpid(), started_at=1.0)
    assert state.find(recycled.pid, recycled.started_at) is None
    state.write(home, recycled)
    current = state.current(home)
    assert current is not None
    assert current.phase is Phase.STOPPED
    assert [(each.state, each.pid) for each in current.processes] == [(State.STOPPED, 0)]


def test_process_without_pid_is_never_found() -> None:
    assert state.find(0, 0.0) is None
