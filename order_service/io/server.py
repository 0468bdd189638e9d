"""Serve the application with gunicorn: worker processes with threads, clients built after fork.

The application is never preloaded: `load` runs in each worker, so engine and producer belong to the process that uses
them. SIGTERM and SIGINT to the master both end it gracefully within 5 s; workers whose master died end by themselves.
"""

import os
import signal
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped] # gunicorn ships no types
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.glogging import Logger  # type: ignore[import-untyped]
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from prometheus_client import CONTENT_TYPE_LATEST

from common import metrics, shared_metrics
from common.config import with_port
from common.log import get_logger
from common.postgres.engine import create_engine
from onceloop import failpoints, probe_server
from onceloop.errors import ExitCode, FatalError
from onceloop.lifecycle import Stop
from onceloop.probe_server import Page, Pages
from order_service.config import ApiSettings
from order_service.io.app import create_app
from order_service.io.http_worker import Worker, connections_max
from order_service.io.problems import Problem, ProblemType, respond
from order_service.io.publisher import Publisher
from order_service.io.readiness import Readiness
from order_service.io.refusal_note import RefusalNote
from order_service.io.status_store import StatusStore

STOP_SECONDS = 3
"""gunicorn kills what is left then; a request waits longer than this for nothing that is worth it."""
KEEP_ALIVE_SECONDS = 15
BACKLOG_MAX = 512
OWN_METRICS = ("order_http_", "order_requests_")

log = get_logger()


def run(settings: ApiSettings, *, metrics_folder: Path) -> None:
    """Serve until a signal; return when all workers are gone. `metrics_folder`: where their counts meet.

    Raises FatalError if the address is in use or workers cannot start.
    """
    master = os.getpid()
    probes = probe_server.listen(settings.health_host, settings.health_port)
    try:
        _Server(settings, metrics_folder, probes).run()
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

    def __init__(self, settings: ApiSettings, metrics_folder: Path, probes: socket.socket) -> None:
        self._settings = settings
        self._metrics_folder = metrics_folder
        self._probes = probes
        self._readiness: Readiness
        self._stack = ExitStack()  # of the worker; ends with its process
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
            "worker_class": Worker,
            "preload_app": False,
            "graceful_timeout": STOP_SECONDS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "worker_connections": connections_max(self._settings.http_threads),
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
        connections = self._settings.http_threads + 1  # a probe needs one, too
        engine = create_engine(self._settings, application="order-api", pool_size=connections, autocommit=True)
        self._publisher = Publisher(self._settings, RefusalNote(self._metrics_folder))
        self._readiness = Readiness(StatusStore(engine), self._publisher, stopping=self.stop)
        app = create_app(
            engine,
            self._publisher,
            self._readiness,
            stopping=self.stop,
            metrics_page=self._metrics_page,
            threads=self._settings.http_threads,
        )
        # A chunked body is parsed while the application reads it, so gunicorn's complaint about it surfaces there.
        app.register_error_handler(ParseException, lambda _: respond(Problem(ProblemType.BAD_REQUEST)))
        return app

    def _when_ready(self, arbiter: Arbiter) -> None:
        def stop_gracefully(_signum: int, frame: FrameType | None) -> None:
            arbiter.signal(signal.SIGTERM, frame)

        signal.signal(signal.SIGINT, stop_gracefully)
        log.info(
            "api.listening",
            host=self._settings.http_host,
            port=self._settings.http_port,
            health_port=self._probes.getsockname()[1],
        )

    def _post_worker_init(self, _worker: Worker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the master decides
        metrics.HTTP_WORKERS.set(1)
        self._stack.enter_context(probe_server.serve(self._probes, self._pages()))
        log.info("worker.started", pid=os.getpid(), threads=self._settings.http_threads)

    def _worker_exit(self, _arbiter: Arbiter, worker: Worker) -> None:
        """End a worker that answered all it took. Crash window: none of it matters any more, all was acknowledged."""
        if worker.booted:  # the master comes by here too, for workers that it missed
            failpoints.point("order:recycle" if worker.served_its_time() else "order:stop")
        if self._publisher is not None:
            self._publisher.close()
        if worker.booted and self.stop():
            # All is written and answered; taking the interpreter and the client apart would cost another second or two.
            sys.stdout.flush()
            os._exit(ExitCode.OK)

    def _child_exit(self, _arbiter: Arbiter, worker: Worker) -> None:
        """Settle the metrics of a worker that is gone, however it ended. Runs in the master."""
        shared_metrics.bury(self._metrics_folder, worker.pid)

    def _pages(self) -> Pages:
        """Return what every worker answers to probes, by turns."""

        def readyz() -> Page:
            document = self._readiness.document()
            return Page(200 if document.ready else 503, document.model_dump_json().encode() + b"\n", "application/json")

        return {
            "/livez": lambda: Page(200, b"live\n"),
            "/readyz": readyz,
            "/metrics": lambda: Page(200, self._metrics_page(), CONTENT_TYPE_LATEST),
        }

    def _metrics_page(self) -> bytes:
        return shared_metrics.page(self._metrics_folder, *OWN_METRICS)


class _Log(Logger):  # type: ignore[misc]
    """gunicorn's own lines through the root logger, in the form of all others."""

    def setup(self, cfg: Any) -> None:
        """Add no handlers."""
        super().setup(cfg)
        self.error_log.propagate = True

    def _set_handler(self, *args: Any, **kwargs: Any) -> None:
        """Add none."""
