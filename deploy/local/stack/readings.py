"""Read what the running processes say about themselves (memory, readiness, lag), and the totals of the tables.

A thread does it once a second, since a frozen process answers late; the view that shows the numbers never waits.
"""

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil
from prometheus_client.parser import text_string_to_metric_families

from common.topics import INVENTORY
from deploy.local.home import Home
from deploy.local.stack.state import ProcessState
from deploy.local.stack.totals import Totals, totals_of
from deploy.local.supervise.loopback import get

PERIOD_SECONDS = 1.0
_TIMEOUT_SECONDS = 0.5
_LAG, _UNREAD = "kafka_consumer_lag_records", "kafka_unread_partitions"


@dataclass(frozen=True, slots=True)
class Reading:
    """One process: its memory, and that of all below it, in bytes; whether it says it serves; whether it is frozen."""

    memory_bytes: int = 0
    serves: bool | None = None
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """All processes by label; what the tables say in all; the lag of live workers.

    None for a lag that is unknown: no worker says one, or there is a partition that none of them reads.
    """

    processes: Mapping[str, Reading] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    lag_records: float | None = None


def lag_on(page: str) -> float | None:
    """Return the lag of `inventory` that a /metrics page says, or None; infinite while a partition has no reader."""
    ours = "".join(f"{line}\n" for line in page.splitlines() if line.startswith((_LAG, _UNREAD)))
    with suppress(ValueError):
        samples = [each for family in text_string_to_metric_families(ours) for each in family.samples]
        lags = [each.value for each in samples if each.name == _LAG and each.labels.get("group") == "inventory"]
        if lags and any(each.value for each in samples if each.name == _UNREAD):
            return math.inf
        return sum(lags) if lags else None
    return None


def take(home: Home, processes: Iterable[ProcessState]) -> Readings:
    """Ask every process once, and the database; all at once, so that it takes as long as the slowest answer."""
    asked = list(processes)
    with ThreadPoolExecutor(2 * len(asked) + 1) as pool:
        totals = pool.submit(totals_of, home)
        serving = {each.label: pool.submit(_serves, each) for each in asked}
        lags = [pool.submit(_lag, each) for each in asked if each.name == INVENTORY.name]
        memory = memory_bytes(process.pid for process in asked if process.pid)
        readings = {
            each.label: Reading(memory[each.pid], serving[each.label].result(), _frozen(each.pid))
            if each.pid
            else Reading()
            for each in asked
        }
        known = [lag for each in lags if (lag := each.result()) is not None]
        lag = sum(known) if known else math.inf
        return Readings(readings, totals.result(), None if math.isinf(lag) else lag)


@contextmanager
def taken_regularly(
    home: Home, processes: Callable[[], Iterable[ProcessState]], *, shown: bool
) -> Iterator[Callable[[], Readings]]:
    """Yield a function that returns the latest readings at once.

    None are taken unless they are shown: they cost about as much as all processes that wait for work.
    """
    if not shown:
        yield Readings
        return
    latest, ended = [Readings()], threading.Event()

    def keep_taking() -> None:
        while not ended.wait(PERIOD_SECONDS):
            with suppress(RuntimeError):  # the interpreter ends meanwhile, and starts no thread any more
                latest[0] = take(home, processes())

    thread = threading.Thread(target=keep_taking, name="readings", daemon=True)
    thread.start()
    try:
        yield lambda: latest[0]
    finally:
        ended.set()


def memory_bytes(pids: Iterable[int]) -> dict[int, int]:
    """Return the resident memory of each process and all below it; pages they share are counted once."""
    below: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):  # one look at all: a look per process would cost the machine
        below.setdefault(process.info["ppid"], []).append(process)
    return {pid: _memory(pid, shared_too=True) + _memory_below(pid, below) for pid in pids}


def _memory_below(pid: int, below: Mapping[int, list[psutil.Process]]) -> int:
    children = below.get(pid, [])
    return sum(_memory(each.pid, shared_too=False) + _memory_below(each.pid, below) for each in children)


def _memory(pid: int, *, shared_too: bool) -> int:
    with suppress(psutil.NoSuchProcess):
        info = psutil.Process(pid).memory_info()
        return int(info.rss if shared_too else info.rss - getattr(info, "shared", 0))  # macOS does not report it
    return 0


def _serves(process: ProcessState) -> bool | None:
    """Return what it says of itself; None where it cannot be asked."""
    if process.port is None or not process.pid:
        return None
    return get(process.port, "/readyz", timeout_seconds=_TIMEOUT_SECONDS) is not None


def _lag(process: ProcessState) -> float | None:
    """Return the lag that it says, if it says one."""
    if process.port is None or not process.pid:
        return None
    return lag_on(get(process.port, "/metrics", timeout_seconds=_TIMEOUT_SECONDS) or "")


def _frozen(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False
