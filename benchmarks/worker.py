"""Measure a running worker from outside: what its own counters say between two moments, and what CPU it took.

An order counts once its database transaction and its Kafka transaction are both committed: the counter rises after
the second. A batch counts as a whole, so a window is wrong by less than one batch at either end.
"""

import http.client
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import psutil
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from onceloop.errors import ExitCode, ReportedError

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.05


class WorkerError(ReportedError):
    """The worker did not do what a measurement needs."""

    exit_code = ExitCode.UNAVAILABLE


class Process(Protocol):
    """A started worker, as its owner hands it over."""

    @property
    def pid(self) -> int:
        """The process that works."""

    def poll(self) -> int | None:
        """Return the exit code once it has ended."""

    def ask_to_stop(self) -> None:
        """Ask for an orderly end."""

    def wait(self, timeout_seconds: float) -> int | None:
        """Return the exit code, or None if it outlasts the time."""

    def kill(self) -> None:
        """End it at once."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look: a moment on the monotonic clock, and totals since the worker began."""

    at_seconds: float
    cpu_seconds: float
    """User and system time, all threads."""
    orders: float
    batches: float
    records: float
    recoveries: float
    lag_records: float


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two looks."""

    seconds: float
    orders: int
    cpu_seconds: float
    records_per_batch: float
    recoveries: int
    lag_records: int
    """What was left to do at the end."""

    @property
    def orders_per_second(self) -> float:
        """Orders decided, a second."""
        return self.orders / self.seconds

    @property
    def cpu_us_per_order(self) -> float:
        """The worker's own CPU time for one order, in microseconds."""
        return self.cpu_seconds / self.orders * 1e6 if self.orders else 0.0


def between(first: Reading, last: Reading) -> Window:
    """Return the window from one look to another."""
    batches = last.batches - first.batches
    return Window(
        seconds=last.at_seconds - first.at_seconds,
        orders=round(last.orders - first.orders),
        cpu_seconds=last.cpu_seconds - first.cpu_seconds,
        records_per_batch=(last.records - first.records) / batches if batches else 0.0,
        recoveries=round(last.recoveries - first.recoveries),
        lag_records=round(last.lag_records),
    )


def parse(text: str, *, at_seconds: float, cpu_seconds: float) -> Reading:
    """Return what a /metrics page says; what was never counted is 0."""
    families = {family.name: family for family in text_string_to_metric_families(text)}

    def total(family: str, suffix: str) -> float:
        return sum(_values(families.get(family), f"{family}{suffix}"))

    return Reading(
        at_seconds=at_seconds,
        cpu_seconds=cpu_seconds,
        orders=total("inventory_decisions", "_total"),
        batches=total("kafka_batch_records", "_count"),
        records=total("kafka_batch_records", "_sum"),
        recoveries=total("kafka_recoveries", "_total"),
        lag_records=total("kafka_consumer_lag_records", ""),
    )


class Worker:
    """A worker that was just started; it stops with `stop`."""

    def __init__(self, process: Process, *, port: int) -> None:
        """Look at the process by way of its health port on loopback."""
        self._process = process
        self._cpu = psutil.Process(process.pid)
        self._port = port

    def measure(self, *, warm_up_seconds: float, seconds: float) -> Window:
        """Wait for the first outcomes, drop the warm-up, return what the next seconds brought.

        Raises WorkerError if the worker ends, or has no outcome after a minute.
        """
        self._await(lambda: (reading := self._read()) is not None and reading.orders > 0, "an outcome")
        time.sleep(warm_up_seconds)
        first = self._look()
        time.sleep(max(0.0, first.at_seconds + seconds - time.monotonic()))
        return between(first, self._look())

    def stop(self) -> None:
        """Let it finish its batch and end. Raises WorkerError if it ends otherwise."""
        self._process.ask_to_stop()
        code = self._process.wait(STOP_SECONDS_MAX)
        if code != ExitCode.OK:
            self._process.kill()
            raise WorkerError(f"the worker did not end in order (exit code {code})", cure="read its log")

    def _look(self) -> Reading:
        reading = self._read()
        if reading is None:
            raise WorkerError(f"the worker does not answer on port {self._port}", cure="read its log")
        return reading

    def _read(self) -> Reading | None:
        """Ask for the counters. The moment and the CPU time are taken when the answer is there."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        with closing(connection), suppress(OSError, http.client.HTTPException, psutil.NoSuchProcess):
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            if response.status == HTTPStatus.OK:
                page = response.read().decode()
                times = self._cpu.cpu_times()
                return parse(page, at_seconds=time.monotonic(), cpu_seconds=times.user + times.system)
        return None

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not condition():
            if (code := self._process.poll()) is not None:
                raise WorkerError(f"the worker ended (exit code {code})", cure="read its log")
            if time.monotonic() > deadline:
                raise WorkerError(f"not {what} within {START_SECONDS_MAX:.0f} s", cure="read its log")
            time.sleep(POLL_SECONDS)


def _values(family: Metric | None, name: str) -> Iterable[float]:
    return [] if family is None else [sample.value for sample in family.samples if sample.name == name]
