"""The parts between the trials and the processes: the plan, the gate, the guardian."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from onceloop.testing import plan
from onceloop.testing.gate import Gate
from onceloop.testing.guardian import Guardian
from onceloop.testing.launch import Hook
from onceloop.testing.plan import Action, Arm


def test_arm_fires_once_across_processes(tmp_path: Path) -> None:
    evidence, arm = tmp_path / "evidence", Arm("db.sent", Action.KILL, 2)
    assert not plan.fired(evidence, arm)
    assert plan.claim(evidence, arm)
    assert plan.fired(evidence, arm)
    assert not plan.claim(evidence, arm)
    assert not plan.fired(evidence, Arm("db.sent", Action.KILL, 1))


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert plan.read(tmp_path / "plan.json") == ()
    arms = (Arm("taken", Action.STOP), Arm("db.sent", Action.KILL, 2))
    plan.write(tmp_path / "plan.json", arms)
    assert plan.read(tmp_path / "plan.json") == arms


def test_hook_acts_at_the_right_passing_whatever_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[signal.Signals] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: sent.append(number))
    plan.write(tmp_path / "plan.json", [Arm("taken", Action.KILL, 2)])
    hook = Hook(tmp_path / "plan.json", tmp_path / "evidence")
    for name in ("a.b:taken", "a.b:decided", "a.b:taken", "a.b:taken"):
        hook(name)
    assert sent == [signal.SIGKILL]


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what comes."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    def accept(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def answer(connection: socket.socket) -> bytes:
    connection.sendall(b"hello")
    return connection.recv(5)


def test_shut_gate_cuts_what_is_connected_and_lets_nothing_in_until_it_opens(echo: tuple[str, int]) -> None:
    with Gate(echo) as gate:
        with socket.create_connection(("127.0.0.1", gate.port), timeout=5) as first:
            assert answer(first) == b"hello"
            gate.shut()
            assert first.recv(1) == b""
        assert gate.cut == 1
        with socket.create_connection(("127.0.0.1", gate.port), timeout=5) as refused:
            assert refused.recv(1) == b""
        gate.reopen()
        with socket.create_connection(("127.0.0.1", gate.port), timeout=5) as second:
            assert answer(second) == b"hello"


ENLISTED = (
    "from onceloop.testing.guardian import enlist; enlist(); print('listed', flush=True); import time; time.sleep(60)"
)


def test_guardian_kills_what_is_listed_when_its_pipe_ends() -> None:
    guardian = Guardian()
    process = subprocess.Popen([sys.executable, "-c", ENLISTED], stdin=guardian.pipe, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"listed\n"
    guardian.close()
    assert process.wait(5) == -signal.SIGKILL


def test_guardian_leaves_alone_what_was_struck_off() -> None:
    guardian = Guardian()
    process = subprocess.Popen([sys.executable, "-c", ENLISTED], stdin=guardian.pipe, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"listed\n"
    guardian.strike_off(process.pid)
    guardian.close()
    assert process.poll() is None
    process.kill()
    process.wait()
