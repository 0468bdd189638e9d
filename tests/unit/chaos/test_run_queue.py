"""What a busy machine costs a start is known apart: a process that shares one CPU has waited about half of its time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from chaos.run import run_queue
from chaos.run.processes import Start

SPIN = "import time; began = time.monotonic()\nwhile time.monotonic() - began < 1.0: pass\nprint(flush=True); input()"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}], check=True)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count is Linux's own")


@contextmanager
def spinning(*programs: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run them side by side on one CPU; yield once each has spun for a second."""
    cpus = os.sched_getaffinity(0)
    with ExitStack() as running:
        os.sched_setaffinity(0, {min(cpus)})
        try:
            processes = [
                running.enter_context(
                    subprocess.Popen([sys.executable, "-c", each], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
                for each in programs
            ]
        finally:
            os.sched_setaffinity(0, cpus)
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield processes
        for process in processes:
            process.communicate(b"\n")


def test_wait_for_a_cpu_is_counted_for_each_of_two_processes_that_share_it() -> None:
    with spinning(SPIN, SPIN) as processes:
        assert [run_queue.waited(each.pid) > 0.2 for each in processes] == [True, True]


def test_wait_of_a_child_that_does_the_work_counts_for_its_parent() -> None:
    with spinning(CHILD, SPIN) as (parent, _):
        assert run_queue.waited(parent.pid) > 0.2


def test_process_that_is_gone_has_waited_for_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert run_queue.waited(process.pid) == 0


def test_start_is_measured_less_what_other_processes_took() -> None:
    assert Start(began=100.0, ready=112.0, queued=7.0).seconds == 5.0
