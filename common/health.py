"""Health of a worker over HTTP, on loopback: /livez, /readyz, /metrics.

Live: the loop moved lately. Ready: the worker is connected and takes records. The server is a daemon thread that
never touches Kafka or the database; it only reads two fields that the loop writes.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from common import metrics
from common.errors import FatalError

LIVE_WITHIN_SECONDS = 30.0
"""A loop that has not moved for so long hangs; longer than any bounded call in it."""


class Health:
    """What the loop says about itself."""

    def __init__(self) -> None:
        self._moved_at = time.monotonic()
        self.ready = False

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
        metrics.WORKER_READY.set(self.ready)
        metrics.WORKER_IDLE_SECONDS.set(self.idle_seconds())
        return metrics.page(*shown)


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
                    self._answer(200 if health.ready else 503, b"ready\n" if health.ready else b"not ready\n")
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

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise FatalError(
            f"PIPELINE_HEALTH_PORT: cannot listen on {host}:{port}: {error.strerror}",
            cure="end what listens there, or choose another port; 0 takes a free one",
        ) from error
    server.daemon_threads = True
    # The poll interval is how long the end of the block waits for the thread.
    threading.Thread(target=server.serve_forever, args=(0.05,), name="health", daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
