"""Health of a worker over HTTP, on loopback: /livez, /readyz, /metrics.

Live: the loop moved lately. Ready: the worker is connected and takes records. The server is a daemon thread that
never touches Kafka or the database; it only reads two fields that the loop writes. It also ends a process whose loop
hangs for good, as whoever reads /livez would: some calls of the client forget their time-out.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from common import metrics
from common.config import with_port
from common.errors import ExitCode, FatalError
from common.log import get_logger

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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    watch: Callable[[], None]

    def service_actions(self) -> None:
        """Do what is to be done in every turn of the server."""
        self.watch()


@contextmanager
def serve(health: Health, *, host: str, port: int, shown: tuple[str, ...] = ("",)) -> Iterator[int]:
    """Serve until the block ends; yield the port (port 0 takes a free one). `shown`: how its metrics' names begin.

    Raises FatalError if the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path:
                case "/livez":
                    self._answer(200 if health.live() else 503, b"live\n" if health.live() else b"stuck\n")
                case "/readyz":
                    ready, words = health.readiness()
                    self._answer(200 if ready else 503, f"{words}\n".encode())
                case "/metrics":
                    self._answer(200, health.page(*shown), content_type=CONTENT_TYPE_LATEST)
                case _:
                    self._answer(404, b"/livez, /readyz, /metrics\n")

        def _answer(self, status: int, body: bytes, *, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # who asked went away meanwhile, as all do while this process is frozen
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Probes are not worth a log line."""

    class Server(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise FatalError(
            f"PIPELINE_HEALTH_PORT: cannot listen on {with_port(host, port)}: {error.strerror}",
            cure="end what listens there, or choose another port; 0 takes a free one",
        ) from error
    server.watch = Watchdog(health).look
    # The poll interval is how long the end of the block waits for the thread.
    threading.Thread(target=server.serve_forever, args=(0.05,), name="health", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
