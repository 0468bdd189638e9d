"""Metrics of a service that is several processes: one page from the files of all, and what becomes of the dead's.

Each process writes values to files of its own, so nothing is lost with a process that is killed: what it counted stays
in the sums, while its gauges go. Its files are added to one file of all the dead, or a service that replaces its
processes now and then would gather files for ever. That step and a reader exclude each other by a lock on the folder:
a count that is read in both places, then in one, looks to Prometheus like a restart.
"""

import fcntl
import glob
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from common import metrics
from common.log import get_logger
from common.metrics_folder import FILES

COUNTED = ("counter", "histogram")
OF_THE_DEAD = 0
"""Stands for a process id in the name of their file."""
UNREADABLE = (struct.error, ValueError, RuntimeError)
READS_MAX = 5
LOCKS_MAX = 50
PAUSE_SECONDS = 0.01

_Values: Any = MmapedDict  # the library types its surface alone
_Collector: Any = MultiProcessCollector
_forget_gauges: Any = mark_process_dead
log = get_logger()


class _Sums(_Collector):  # type: ignore[misc]
    """All files of the folder; the library takes brackets in its path for a pattern, and finds none."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, path=str(folder))
        self._folder = folder

    def collect(self) -> Any:
        """Return the sums."""
        return self.merge([str(file) for file in self._folder.glob(FILES)], accumulate=True)


def page(folder: Path, *prefixes: str) -> bytes:
    """Return the metrics of all processes whose names begin so."""
    with _locked(folder, fcntl.LOCK_SH):
        for attempt in range(READS_MAX):
            try:
                return metrics.page(*prefixes, source=_Sums(folder))
            except UNREADABLE:  # a process that starts writes its first bytes just now
                if attempt == READS_MAX - 1:
                    raise
                time.sleep(PAUSE_SECONDS)
    raise AssertionError("unreachable")


def bury(folder: Path, pid: int) -> None:
    """Let go of the gauges of a process that ended, and add its counts to those of all the dead. Never waits long.

    A reader that is frozen in the middle of its page keeps the lock; then the files stay, and count as they are.
    """
    try:
        _forget_gauges(pid, path=glob.escape(str(folder)))
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for kind in COUNTED:
                _add(folder / f"{kind}_{pid}.db", folder / f"{kind}_{OF_THE_DEAD}.db")
    except (OSError, *UNREADABLE) as error:  # no metric ends a service
        log.warning("metrics.unmerged", pid=pid, reason=str(error))


def _add(dead: Path, all_dead: Path) -> None:
    """Add one file to another, then remove it; a crash in between ends the service, whose next start empties all."""
    if not dead.exists():
        return
    total = _Values(str(all_dead))
    try:
        for key, value, _, _ in _Values.read_all_values_from_file(str(dead)):
            total.write_value(key, total.read_value(key)[0] + value, 0.0)
    finally:
        total.close()
    dead.unlink()


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold the folder's lock; it falls with the process. Raises BlockingIOError where `how` does not wait."""
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        for attempt in range(LOCKS_MAX):
            try:
                fcntl.flock(descriptor, how)
                break
            except BlockingIOError:
                if attempt == LOCKS_MAX - 1:
                    raise
                time.sleep(PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)
