"""How long a process waited for a CPU: what a busy machine cost it, apart from what it cost itself."""

from contextlib import suppress
from pathlib import Path

import psutil

NANOSECONDS = 1_000_000_000


def waited(pid: int) -> float:
    """Return the seconds that a start has waited in the run queue so far: the process, then its quickest child.

    Main threads alone: they do the work of a start, one after the other. 0 where the kernel does not count it, or once
    the process is gone. Source: Linux, Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`.
    """
    with suppress(psutil.Error):
        children = psutil.Process(pid).children()
        return _main_thread(pid) + min((_main_thread(child.pid) for child in children), default=0.0)
    return 0.0


def _main_thread(pid: int) -> float:
    with suppress(OSError, ValueError):
        _ran, queued, _slices = Path(f"/proc/{pid}/schedstat").read_text().split()
        return int(queued) / NANOSECONDS
    return 0.0
