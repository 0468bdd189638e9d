"""Health of a worker over HTTP, on loopback: /livez, /readyz, /metrics.

Live: the loop moved lately. Ready: the worker is connected and takes records. The server is a daemon thread that
never touches Kafka or the database; it only reads two fields that the loop writes. It also ends a process whose loop
hangs for good, as whoever reads /livez would: some calls of the client forget their time-out.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CONTENT_TYPE_LATEST

from common import metrics
from common.log import get_logger
from onceloop import probe_server
from onceloop.errors import ExitCode
from onceloop.probe_server import Page

LIVE_WITHIN_SECONDS = 30.0
"""A loop that has not moved for so long hangs; longer than any bounded call in it."""
STUCK_SECONDS = 75.0
"""Then it hangs for good, and the group has given its partitions away: max.poll.interval.ms is 60 s."""
AWAKE_SECONDS = 5.0
"""For so long it must have been seen hanging: a process that was frozen finds the clock advanced when it wakes."""

log = get_logger()


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

    def page(self, *shown: str) -> bytes:
        """Return the metrics whose names begin so, what is known here among them."""
        metrics.WORKER_READY.set(self.readiness()[0])
        metrics.UNREAD.set(len(self.unread))
        metrics.WORKER_IDLE_SECONDS.set(self.idle_seconds())
        return metrics.page(*shown)


class Watchdog:
    """Ends the process whose loop hangs. As safe as SIGKILL, and its successor takes the slot."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._seen_at: float | None = None

    def look(self) -> None:
        """Look once; to be called several times a second."""
        idle_seconds = self._health.idle_seconds()
        if idle_seconds < STUCK_SECONDS:
            self._seen_at = None
            return
        self._seen_at = self._seen_at or time.monotonic()
        if time.monotonic() - self._seen_at >= AWAKE_SECONDS:
            log.error("loop.stuck", seconds=round(idle_seconds, 1), exit_code=int(ExitCode.UNAVAILABLE))
            os._exit(ExitCode.UNAVAILABLE)


@contextmanager
def serve(health: Health, *, host: str, port: int, shown: tuple[str, ...] = ("",)) -> Iterator[int]:
    """Serve until the block ends; yield the port (port 0 takes a free one). `shown`: how its metrics' names begin.

    Raises FatalError if the port is taken.
    """

    def livez() -> Page:
        return Page(200, b"live\n") if health.live() else Page(503, b"stuck\n")

    def readyz() -> Page:
        ready, words = health.readiness()
        return Page(200 if ready else 503, f"{words}\n".encode())

    def page() -> Page:
        return Page(200, health.page(*shown), CONTENT_TYPE_LATEST)

    listener = probe_server.listen(host, port)
    with probe_server.serve(
        listener, {"/livez": livez, "/readyz": readyz, "/metrics": page}, watch=Watchdog(health).look
    ):
        yield int(listener.getsockname()[1])
