"""Read what the running processes say about themselves: memory, readiness, Prometheus counters.

A thread does it once a second, since a frozen process answers late; whoever shows the numbers never waits for them.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import psutil
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.loopback import get
from deploy.local.state import ProcessState

PERIOD_SECONDS = 1.0
_TIMEOUT_SECONDS = 0.5
_ACCEPTED, _DECISIONS, _LAG = "order_requests_accepted_total", "inventory_decisions_total", "kafka_consumer_lag_records"


@dataclass(frozen=True, slots=True)
class Counters:
    """Sums over all workers. None: nobody has said anything yet."""

    accepted: float | None = None
    reserved: float | None = None
    failed: float | None = None
    lag_records: float | None = None

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            _sum(self.accepted, other.accepted),
            _sum(self.reserved, other.reserved),
            _sum(self.failed, other.failed),
            _sum(self.lag_records, other.lag_records),
        )

    def fell_behind(self, before: "Counters") -> bool:
        """Tell whether a count is lower than it was: its process began anew."""
        pairs = ((self.accepted, before.accepted), (self.reserved, before.reserved), (self.failed, before.failed))
        return any(now is not None and earlier is not None and now < earlier for now, earlier in pairs)


@dataclass(frozen=True, slots=True)
class Reading:
    """One process: its memory, and that of all below it, in bytes; whether it says it serves; whether it is frozen."""

    memory_bytes: int = 0
    serves: bool | None = None
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Readings:
    """All processes by label, and the counters of all workers together."""

    processes: Mapping[str, Reading] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)


def parse(text: str) -> Counters:
    """Return what a /metrics page says; names that are absent stay None."""
    with suppress(ValueError):
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]

        def total(name: str, **labels: str) -> float | None:
            return _total(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())

        return Counters(
            accepted=total(_ACCEPTED),
            reserved=total(_DECISIONS, verdict="reserved"),
            failed=total(_DECISIONS, verdict="failed"),
            lag_records=total(_LAG, group="inventory"),
        )
    return Counters()


class Reader:
    """Asks the processes, and goes on counting where a restarted one begins at zero again."""

    def __init__(self) -> None:
        self._latest: dict[str, Counters] = {}
        self._ended = Counters()

    def take(self, processes: Iterable[ProcessState]) -> Readings:
        """Ask every process once."""
        asked = list(processes)
        memory = memory_bytes(process.pid for process in asked if process.pid)
        readings = {}
        for process in asked:
            readings[process.label] = _reading(process, memory.get(process.pid, 0))
            if process.port is not None and process.pid:
                page = get(process.port, "/metrics", timeout_seconds=_TIMEOUT_SECONDS)
                self._count(process.label, parse(page or ""))
        return Readings(readings, sum(self._latest.values(), self._ended))

    def _count(self, label: str, now: Counters) -> None:
        before = self._latest.get(label, Counters())
        if now.fell_behind(before):
            self._ended += replace(before, lag_records=None)  # lag is not a count: it dies with its worker
        if now != Counters():
            self._latest[label] = now


@contextmanager
def taken_regularly(processes: Callable[[], Iterable[ProcessState]]) -> Iterator[Callable[[], Readings]]:
    """Yield a function that returns the latest readings at once."""
    reader, latest, ended = Reader(), [Readings()], threading.Event()

    def keep_taking() -> None:
        while not ended.wait(PERIOD_SECONDS):
            latest[0] = reader.take(processes())

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
        return int(info.rss if shared_too else info.rss - getattr(info, "shared", 0))  # macOS does not tell
    return 0


def _reading(process: ProcessState, memory: int) -> Reading:
    if not process.pid:
        return Reading()
    serves = None
    if process.port is not None:
        serves = get(process.port, "/readyz", timeout_seconds=_TIMEOUT_SECONDS) is not None
    return Reading(memory, serves, _frozen(process.pid))


def _frozen(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def _total(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) if found else None


def _sum(left: float | None, right: float | None) -> float | None:
    return _total(each for each in (left, right) if each is not None)
