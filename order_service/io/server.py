"""Serve the application with gunicorn: worker processes with threads, clients built after fork.

The application is never preloaded: `load` runs in each worker, so engine and producer belong to the process that uses
them. SIGTERM and SIGINT to the master both end it gracefully within 5 s; workers whose master died end by themselves.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped] # gunicorn ships no types
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.http.errors import (  # type: ignore[import-untyped]
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import TConn, ThreadWorker  # type: ignore[import-untyped]

from common import failpoints, metrics, shared_metrics
from common.config import with_port
from common.errors import ExitCode, FatalError
from common.lifecycle import Stop
from common.log import get_logger
from common.postgres.engine import create_engine
from order_service.config import ApiSettings
from order_service.io.app import create_app
from order_service.io.problems import Problem, ProblemType, respond, unreadable
from order_service.io.publisher import Publisher

STOP_SECONDS = 3
"""gunicorn kills what is left then; a request waits longer than this for nothing that is worth it."""
READ_SECONDS_MAX = 10.0
"""From a thread's taking a connection up to the end of the request's headers."""
ANSWER_SECONDS_MAX = 30.0
"""For the body and the answer: more than any wait inside, so it ends only clients that do not move."""
KEEP_ALIVE_SECONDS = 15
CONNECTIONS_MAX = 1000
BACKLOG_MAX = 512
OWN_METRICS = ("order_http_", "order_requests_")

log = get_logger()


def run(settings: ApiSettings, *, metrics_folder: Path) -> None:
    """Serve until a signal; return when all workers are gone. `metrics_folder`: where their counts meet.

    Raises FatalError if the address is in use or workers cannot start.
    """
    master = os.getpid()
    try:
        _Server(settings, metrics_folder).run()
    except SystemExit as ended:  # gunicorn ends so, in the master and in each worker
        if os.getpid() != master:
            raise
        if ended.code:
            raise FatalError(
                f"gunicorn ended with {ended.code}, serving on {with_port(settings.http_host, settings.http_port)}",
                cure="see the lines above; if the port is in use, set PIPELINE_HTTP_PORT",
            ) from None


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with our settings alone: no command line, no file, no GUNICORN_CMD_ARGS."""

    def __init__(self, settings: ApiSettings, metrics_folder: Path) -> None:
        self._settings = settings
        self._metrics_folder = metrics_folder
        self.stop = Stop()
        self._publisher: Publisher | None = None
        super().__init__(prog="order_service")

    def load_config(self) -> None:
        """Set every option that matters, whatever the environment says."""
        for name, value in {
            "bind": with_port(self._settings.http_host, self._settings.http_port),
            "workers": self._settings.http_workers,
            "threads": self._settings.http_threads,
            "max_requests": self._settings.http_requests_max,
            "max_requests_jitter": self._settings.http_requests_max // 10,  # or all workers would leave together
            "worker_class": _Worker,
            "preload_app": False,
            "graceful_timeout": STOP_SECONDS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "worker_connections": CONNECTIONS_MAX,
            "backlog": BACKLOG_MAX,
            "control_socket_disable": True,
            "forwarded_allow_ips": "",
            "logger_class": _Log,
            "loglevel": "warning",
            "accesslog": None,
            "when_ready": self._when_ready,
            "post_worker_init": self._post_worker_init,
            "worker_exit": self._worker_exit,
            "child_exit": self._child_exit,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Build the application and its clients. Runs in the worker."""
        engine = create_engine(
            self._settings, application="order-api", pool_size=self._settings.http_threads, autocommit=True
        )
        self._publisher = Publisher(self._settings)
        app = create_app(engine, self._publisher, stopping=self.stop, metrics_page=self._metrics_page)
        # A chunked body is parsed while the application reads it, so gunicorn's complaint about it surfaces there.
        app.register_error_handler(ParseException, lambda _: respond(Problem(ProblemType.BAD_REQUEST)))
        return app

    def _when_ready(self, arbiter: Arbiter) -> None:
        def stop_gracefully(_signum: int, frame: FrameType | None) -> None:
            arbiter.signal(signal.SIGTERM, frame)

        signal.signal(signal.SIGINT, stop_gracefully)
        log.info("api.listening", host=self._settings.http_host, port=self._settings.http_port)

    def _post_worker_init(self, _worker: "_Worker") -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the master decides
        metrics.HTTP_WORKERS.set(1)
        log.info("worker.started", pid=os.getpid(), threads=self._settings.http_threads)

    def _worker_exit(self, _arbiter: Arbiter, worker: "_Worker") -> None:
        """End a worker that answered all it took. Crash window: none of it matters any more, all was acknowledged."""
        if worker.booted:  # the master comes by here too, for workers that it missed
            failpoints.point("order:recycle" if worker.served_its_time() else "order:stop")
        if self._publisher is not None:
            self._publisher.close()
        if worker.booted and self.stop():
            # All is written and answered; taking the interpreter and the client apart would cost another second or two.
            sys.stdout.flush()
            os._exit(ExitCode.OK)

    def _child_exit(self, _arbiter: Arbiter, worker: "_Worker") -> None:
        """Settle the metrics of a worker that is gone, however it ended. Runs in the master."""
        shared_metrics.bury(self._metrics_folder, worker.pid)

    def _metrics_page(self) -> bytes:
        return shared_metrics.page(self._metrics_folder, *OWN_METRICS)


class _Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, with an end for clients that do not move and for waits that outlast a stop.

    gunicorn reads without time-outs once a thread took a connection, so a few slow clients could hold every thread.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines: dict[TConn, float] = {}

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take SIGTERM: no new connections, and nobody waits for an outcome any more."""
        self.app.stop.set()
        super().handle_exit(sig, frame)

    def handle(self, conn: TConn) -> Any:
        """Read and answer one request, in a thread."""
        self._deadlines[conn] = time.monotonic() + READ_SECONDS_MAX
        try:
            return super().handle(conn)
        finally:
            self._deadlines.pop(conn, None)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what cannot be read as the application would; gunicorn would send HTML."""
        if not isinstance(exc, ParseException) or isinstance(exc, (InvalidResponseHeader, InvalidResponseHeaderName)):
            super().handle_error(req, client, addr, exc)
            return
        kind = _unreadable_kind(exc)
        metrics.HTTP_UNREADABLE.labels(kind.status).inc()
        with self.wsgi.app_context():
            answer = unreadable(kind)
        try:
            client.sendall(answer)
        except OSError:
            log.debug("client.gone", address=addr[0])

    def served_its_time(self) -> bool:
        """Return True once it answered as many requests as a worker may."""
        return bool(self.nr >= self.max_requests)

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request whose headers are read."""
        if self.nr + 1 >= self.max_requests:
            self.app.stop.set()  # the last one: gunicorn waits a few seconds for the others, so nobody waits longer
        self._deadlines[conn] = time.monotonic() + ANSWER_SECONDS_MAX
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Close what took too long; the main thread comes by every second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, deadline in tuple(self._deadlines.items()):
            if deadline < now:
                log.warning("client.dropped", address=conn.client[0])
                self._deadlines.pop(conn, None)
                try:
                    conn.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    log.debug("client.gone", address=conn.client[0])


def _unreadable_kind(error: ParseException) -> ProblemType:
    match error:
        case LimitRequestLine():
            return ProblemType.URI_TOO_LONG
        case LimitRequestHeaders():
            return ProblemType.HEADERS_TOO_LARGE
        case _:
            return ProblemType.BAD_REQUEST


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own lines through the root logger, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        """Add no handlers."""
        super().setup(cfg)
        self.error_log.propagate = True

    def _set_handler(self, *args: Any, **kwargs: Any) -> None:
        """Add none."""
