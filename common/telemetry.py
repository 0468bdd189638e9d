"""Where this shop's processes report: log events by structlog, metrics by Prometheus; and their probes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uuid_utils
from prometheus_client import CONTENT_TYPE_LATEST

from common import metrics
from common.config import PREFIX, HealthSettings
from onceloop import health, probe_server
from onceloop.errors import FatalError
from onceloop.probe_server import Page
from onceloop.runtime import Runtime
from onceloop.structlog import StructlogObserver
from onceloop.telemetry import Observers

OBSERVER = Observers(StructlogObserver(), metrics.METERS)
RUNTIME = Runtime(observer=OBSERVER, new_id=lambda: str(uuid_utils.uuid7()))


@contextmanager
def serving_probes(state: health.Health, settings: HealthSettings, shown: tuple[str, ...]) -> Iterator[int]:
    """Serve /livez, /readyz, /metrics until the block ends; yield the port. `shown`: how its metrics' names begin.

    Raises FatalError if the port is taken.
    """

    def page() -> Page:
        return Page(200, metrics.page(*shown), CONTENT_TYPE_LATEST)

    with health.serve(state, listening(settings), metrics_page=page, observer=OBSERVER) as port:
        yield port


def listening(settings: HealthSettings) -> socket.socket:
    """Return the socket on which a process is probed. Raises FatalError if it cannot be had."""
    try:
        return probe_server.listen(settings.health_host, settings.health_port)
    except FatalError as error:
        raise FatalError(f"{PREFIX}HEALTH_PORT: {error.message}", cure=error.cure) from error
