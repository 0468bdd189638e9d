"""A worker's slot in containers: a lock on a file, held by the worker itself."""

import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.images.claim_slot import SLOTS_MAX

WORKER = "import os, sys; print(os.environ['PIPELINE_SLOT'], os.getpid(), flush=True); sys.stdin.read()"
"""Says its slot and its pid, and lives until its input ends."""
CLAIM = "import sys; from pathlib import Path; from deploy.images.claim_slot import become; "
SECONDS_MAX = 30.0


class Worker:
    """A process that claimed a slot and became a worker."""

    def __init__(self, folder: Path, service: str, opened: ExitStack) -> None:
        claim = f"{CLAIM}become(Path({str(folder)!r}), {service!r}, [sys.executable, '-c', {WORKER!r}])"
        argv = [sys.executable, "-c", claim]
        self.process = opened.enter_context(
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        opened.callback(self.process.kill)

    def says(self) -> tuple[int, int]:
        """Return slot and pid."""
        assert self.process.stdout is not None
        slot, pid = self.process.stdout.readline().split()
        return int(slot), int(pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS_MAX)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(folder: Path, opened: ExitStack, *, count: int, service: str = "inventory") -> Sequence[Worker]:
    return [Worker(folder, service, opened) for _ in range(count)]


def test_workers_that_start_at_once_each_get_a_slot_of_their_own(tmp_path: Path, opened: ExitStack) -> None:
    workers = start(tmp_path, opened, count=12)
    assert sorted(worker.says()[0] for worker in workers) == list(range(12))


def test_worker_is_the_process_that_was_started(tmp_path: Path, opened: ExitStack) -> None:
    [worker] = start(tmp_path, opened, count=1)
    assert worker.says() == (0, worker.process.pid)


def test_slot_of_a_killed_worker_is_free_at_once(tmp_path: Path, opened: ExitStack) -> None:
    """Aim: a slot comes back with its next container. Fault: SIGKILL. Must hold: its slot, not another one, is next."""
    workers = start(tmp_path, opened, count=3)
    slots = {worker.says()[0]: worker for worker in workers}
    slots[1].kill()
    assert start(tmp_path, opened, count=1)[0].says()[0] == 1


def test_frozen_worker_keeps_its_slot(tmp_path: Path, opened: ExitStack) -> None:
    """Aim: no twin of a zombie. Fault: SIGSTOP, as `docker pause`. Must hold: the next worker gets another slot."""
    [worker] = start(tmp_path, opened, count=1)
    assert worker.says()[0] == 0
    worker.process.send_signal(signal.SIGSTOP)
    assert start(tmp_path, opened, count=1)[0].says()[0] == 1
    worker.process.send_signal(signal.SIGCONT)


def test_services_do_not_take_slots_from_each_other(tmp_path: Path, opened: ExitStack) -> None:
    assert start(tmp_path, opened, count=1)[0].says()[0] == 0
    assert start(tmp_path, opened, count=1, service="metrics")[0].says()[0] == 0


def test_one_worker_too_many_is_refused(tmp_path: Path, opened: ExitStack) -> None:
    for slot in range(SLOTS_MAX):
        fcntl.flock(opened.enter_context((tmp_path / f"inventory-{slot}").open("w")), fcntl.LOCK_EX)
    [late] = start(tmp_path, opened, count=1)
    assert late.process.wait(SECONDS_MAX) == 75
    assert late.process.stderr is not None
    assert f"all {SLOTS_MAX} slots" in late.process.stderr.read()
