"""Health of a worker over HTTP, on loopback: /livez, /readyz, /metrics.

Live: the loop moved lately. Ready: the worker is connected and takes records. The server is a daemon thread that
never touches Kafka or the database; it only reads two fields that the loop writes. It also ends a process whose loop
hangs for good, as a supervisor that reads /livez would: some calls of the client forget their time-out. Where no page
is served, `watched` does that alone.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from onceloop import metrics, probe_server
from onceloop.errors import ExitCode
from onceloop.probe_server import Page
from onceloop.telemetry import SILENT, Observer

LIVE_WITHIN_SECONDS = 30.0
"""A loop that has not moved for so long hangs; longer than any bounded call in it."""
STUCK_SECONDS = 75.0
"""Then it hangs for good, and the group has given its partitions away: max.poll.interval.ms is 60 s."""
AWAKE_SECONDS = 5.0
"""For so long it must have been seen hanging: a process that was frozen finds the clock advanced when it wakes."""


def _no_metrics() -> Page:
    """Return a page that says there are none."""
    return Page(404, b"no metrics: the observer keeps none\n")


class Health:
    """What the loop says about itself."""

    def __init__(self) -> None:
        self._moved_at = time.monotonic()
        self.ready = False
        self.unread: frozenset[tuple[str, int]] = frozenset()

    def readiness(self) -> tuple[bool, str]:
        """Return whether /readyz says yes, and its words. Partitions that no member reads are a no from each."""
        if self.unread:
            names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(self.unread))
            return False, f"not ready: no member of the group reads {names}"
        return self.ready, "ready" if self.ready else "not ready"

    def beat(self) -> None:
        """Say that the loop moved."""
        self._moved_at = time.monotonic()

    def idle_seconds(self) -> float:
        """Return how long ago the loop moved."""
        return time.monotonic() - self._moved_at

    def live(self) -> bool:
        """Return True if the loop moved lately."""
        return self.idle_seconds() < LIVE_WITHIN_SECONDS

    def report(self, observer: Observer) -> None:
        """Set the gauges of what is known here."""
        observer.set(metrics.READY, self.readiness()[0])
        observer.set(metrics.UNREAD, len(self.unread))
        observer.set(metrics.IDLE_SECONDS, self.idle_seconds())


class Watchdog:
    """Ends the process whose loop hangs. As safe as SIGKILL, and its successor takes the slot."""

    def __init__(self, health: Health, observer: Observer) -> None:
        self._health = health
        self._observer = observer
        self._seen_at: float | None = None

    def look(self) -> None:
        """Look once; to be called several times a second."""
        idle_seconds = self._health.idle_seconds()
        if idle_seconds < STUCK_SECONDS:
            self._seen_at = None
            return
        self._seen_at = self._seen_at or time.monotonic()
        if time.monotonic() - self._seen_at >= AWAKE_SECONDS:
            seconds, code = round(idle_seconds, 1), ExitCode.UNAVAILABLE
            self._observer.log("error", "loop.stuck", seconds=seconds, exit_code=int(code))
            os._exit(ExitCode.UNAVAILABLE)


@contextmanager
def watched(health: Health, *, observer: Observer = SILENT) -> Iterator[None]:
    """End the process if the loop hangs, until the block ends; serve nothing."""
    watchdog, ended = Watchdog(health, observer), threading.Event()

    def watch() -> None:
        while not ended.wait(probe_server.WATCH_EVERY_SECONDS):
            watchdog.look()

    thread = threading.Thread(target=watch, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def serve(
    health: Health,
    listener: socket.socket,
    *,
    metrics_page: Callable[[], Page] = _no_metrics,
    observer: Observer = SILENT,
) -> Iterator[int]:
    """Serve on what `probe_server.listen` returned until the block ends; yield the port.

    `metrics_page` makes /metrics.
    """

    def livez() -> Page:
        return Page(200, b"live\n") if health.live() else Page(503, b"stuck\n")

    def readyz() -> Page:
        ready, words = health.readiness()
        return Page(200 if ready else 503, f"{words}\n".encode())

    def page() -> Page:
        health.report(observer)
        return metrics_page()

    with probe_server.serve(
        listener,
        {"/livez": livez, "/readyz": readyz, "/metrics": page},
        watch=Watchdog(health, observer).look,
        observer=observer,
    ):
        yield int(listener.getsockname()[1])
