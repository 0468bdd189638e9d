"""One of gunicorn's processes: threads that get requests that have come whole, and a main thread that never waits.

By itself gunicorn reads and drains in threads, and closes in the main thread, at the clients' pace: a few slow ones
could hold up all others.
"""

import errno
import socket
import time
from concurrent.futures import Future
from types import FrameType
from typing import Any

from gunicorn.http.errors import (  # type: ignore[import-untyped] # gunicorn ships no types
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from common import metrics
from common.log import get_logger
from order_service.io import arrivals
from order_service.io.arrivals import Arrivals
from order_service.io.problems import ProblemType, unreadable
from order_service.io.sockets import has_closed, takes_answers

READ_SECONDS_MAX = 2.0
"""From a thread's taking a connection up to the end of the request's headers, which have come already."""
ANSWER_SECONDS_MAX = 30.0
"""For the answer: more than any wait inside, so it ends only clients that do not read theirs."""
PATIENCE_SECONDS = 5.5
"""A request that waited longer than this for a thread is not begun: by then its client would have had a 503."""
PATIENCE_WITH_CLOSED_SECONDS = 1.0
"""Nor one that waited longer than this and whose client has closed its side; by itself that says nothing."""
KEPT_ALIVE_MAX = 300
QUEUED_PER_THREAD_MAX = 4
"""More than that is a burst, and queued too, as long as the first of the queue has not waited long."""
QUEUE_SECONDS_MAX = 0.5
BURST_MAX = 256
LOOK_EVERY_SECONDS = 0.2

log = get_logger()


def connections_max(threads: int) -> int:
    """Return how many connections a process of so many threads holds at most."""
    return arrivals.CONNECTIONS_MAX + KEPT_ALIVE_MAX + BURST_MAX + threads


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, and a place for connections that no thread has."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.max_keepalived = KEPT_ALIVE_MAX
        self._deadlines: dict[TConn, float] = {}
        self._queued: dict[TConn, float] = {}
        self._next_look = 0.0
        self._arrivals: Arrivals

    def run(self) -> None:
        """Serve until the end. Runs in the main thread."""
        self._arrivals = Arrivals(
            self.poller, pass_on=self._queue, drop=self._drop, answer=self._problem, read_ahead=_read_ahead
        )
        super().run()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM: no new connections, and no request waits for an outcome any more."""
        self.app.stop.set()
        super().handle_exit(sig, frame)

    def accept(self, listener: socket.socket) -> None:
        """Take a connection; without a descriptor for it, close another one first."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            if not self._arrivals.make_room() and self.keepalived_conns:
                self.keepalived_conns[0].timeout = 0.0
                self.murder_keepalived()

    def enqueue_req(self, conn: TConn) -> None:
        """Have the connection wait for its next request."""
        self._arrivals.admit(conn)

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """Keep the connection for another request, or close it."""
        if fs.cancelled() or fs.exception() is not None or not fs.result():
            self._arrivals.see_off(conn)
        else:
            super().finish_request(conn, fs)

    def handle(self, conn: TConn) -> Any:
        """Read and answer one request, in a thread; not one whose client has given up, or does not read its answers."""
        waited = time.monotonic() - self._queued.pop(conn)
        if not takes_answers(conn.sock):
            log.warning("client.dropped", address=conn.client[0])
            return False
        self._deadlines[conn] = time.monotonic() + READ_SECONDS_MAX
        try:
            if waited > PATIENCE_SECONDS or (waited > PATIENCE_WITH_CLOSED_SECONDS and has_closed(conn.sock)):
                conn.sock.send(self._problem(ProblemType.UNAVAILABLE))
                return False
            return super().handle(conn)
        finally:
            self._deadlines.pop(conn, None)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what cannot be read as the application would; gunicorn would send HTML."""
        if not isinstance(exc, ParseException) or isinstance(exc, (InvalidResponseHeader, InvalidResponseHeaderName)):
            super().handle_error(req, client, addr, exc)
            return
        try:
            client.sendall(self._problem(_unreadable_kind(exc), header=getattr(exc, "hdr", "")))
        except OSError:
            log.debug("client.gone", address=addr[0])

    def served_its_time(self) -> bool:
        """Return True once it answered as many requests as a worker may."""
        return bool(self.nr >= self.max_requests)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request whose headers are read."""
        if self.nr + 1 >= self.max_requests:
            self.app.stop.set()  # the last one: gunicorn waits a few seconds for the others, so no request waits longer
        self._deadlines[conn] = time.monotonic() + ANSWER_SECONDS_MAX
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Close what took too long; the main thread comes by after each event, and every second."""
        super().murder_pending()
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_SECONDS
        self._arrivals.end_overdue(stopping=not self.alive)
        for conn, deadline in tuple(self._deadlines.items()):
            if deadline < now:
                log.warning("client.dropped", address=conn.client[0])
                self._deadlines.pop(conn, None)
                try:
                    conn.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    log.debug("client.gone", address=conn.client[0])

    def _queue(self, conn: TConn) -> None:
        if self._queue_is_deep():
            self._arrivals.refuse(conn, ProblemType.UNAVAILABLE)
            return
        conn.data_ready = True
        self._queued[conn] = time.monotonic()
        super().enqueue_req(conn)

    def _queue_is_deep(self) -> bool:
        began = tuple(self._queued.values())  # a copy: threads take theirs out
        if len(began) < QUEUED_PER_THREAD_MAX * self.cfg.threads:
            return False
        return len(began) >= BURST_MAX or time.monotonic() - began[0] > QUEUE_SECONDS_MAX

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()

    def _problem(self, kind: ProblemType, *, header: str = "") -> bytes:
        metrics.HTTP_UNREADABLE.labels(kind.status).inc()
        with self.wsgi.app_context():
            return unreadable(kind, header=header)


def _read_ahead(conn: TConn) -> bytes:
    """Return what the parser has read of the next request together with the one before."""
    return bytes(conn.parser.unreader.buf.getvalue()) if conn.parser is not None else b""


def _unreadable_kind(error: ParseException) -> ProblemType:
    match error:
        case LimitRequestLine():
            return ProblemType.URI_TOO_LONG
        case LimitRequestHeaders():
            return ProblemType.HEADERS_TOO_LARGE
        case _:
            return ProblemType.BAD_REQUEST
