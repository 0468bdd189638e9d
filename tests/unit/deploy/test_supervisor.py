import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.local import home as homes
from deploy.local.fetch import jars
from deploy.local.stack import supervisor
from deploy.local.stack.supervisor import PORT_ATTEMPTS_MAX, Plan, View
from deploy.local.supervise.diagnosis import PortTakenError


class Watcher:
    """Notes what is said of ports."""

    shows_figures = False

    def __init__(self) -> None:
        self.lost: list[str] = []

    def open_progress(self, size_bytes: int) -> AbstractContextManager[jars.Advance]:
        return jars.no_progress(size_bytes)

    def moved(self, _ports: Any) -> None:
        pass

    def port_lost(self, error: PortTakenError) -> None:
        self.lost.append(error.message)

    def show(self, *_: Any) -> None:
        pass


class Thief:
    """Has a start fail by a port that is taken in between, so many times; then the stack runs and ends."""

    def __init__(self, *, times: int) -> None:
        self.times, self.starts = times, 0

    def __call__(self, *_: Any) -> "Thief":
        return self

    def run(self, _wish: Any) -> None:
        self.starts += 1
        if self.starts <= self.times:
            raise PortTakenError(f"kafka did not start: theft {self.starts}")


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, thief: Thief) -> list[str]:
    watcher = Watcher()
    monkeypatch.setattr(jars, "ensure", lambda **_: None)
    monkeypatch.setattr(supervisor, "_Supervisor", thief)
    supervisor.run(Plan(homes.at(tmp_path / "stack"), ()), cast(View, watcher))
    return watcher.lost


def test_start_is_repeated_while_another_program_takes_its_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    thief = Thief(times=3)
    assert len(run(monkeypatch, tmp_path, thief)) == 3
    assert thief.starts == 4


def test_start_gives_up_after_some_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    thief = Thief(times=99)
    with pytest.raises(PortTakenError):
        run(monkeypatch, tmp_path, thief)
    assert thief.starts == PORT_ATTEMPTS_MAX


def test_stop_asked_for_while_a_start_fails_is_not_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Red before: the next attempt had forgotten the signal, and the stack came up all the same."""

    class Stopped(Thief):
        def run(self, wish: Any) -> None:
            if not self.starts:
                os.kill(os.getpid(), signal.SIGTERM)
            super().run(wish)

    thief = Stopped(times=1)
    assert run(monkeypatch, tmp_path, thief) == []
    assert thief.starts == 1
