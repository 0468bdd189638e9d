"""Look at the broker and at the tables, at intervals, and serve what was found until a signal.

Each has a thread of its own, so that a database that is away or slow does not keep the broker from being seen.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Generic, TypeVar

import sqlalchemy as sa
from prometheus_client import REGISTRY

from common import metrics
from common.log import get_logger
from common.postgres.engine import create_engine
from common.telemetry import serving_probes
from common.topics import ORDER_STATUS, Group
from deploy.exporter import measures
from deploy.exporter.board import Board
from deploy.exporter.config import ExporterSettings
from deploy.exporter.observer import Observer
from deploy.exporter.tables import read_books, read_positions
from onceloop import health
from onceloop.errors import Busy, Poison
from onceloop.lifecycle import Stop, stop_signal
from onceloop.records import Partition

SHOWN = (
    "kafka_cluster_",
    "kafka_partition_",
    "kafka_group_",
    "inventory_decided_",
    "inventory_stock_",
    "notification_ledger_",
    "exporter_",
)
BUSY_SHARE = 0.01
"""So much of the time the database may spend on us."""
POSITIONS_STALE_LOOKS = 4

T = TypeVar("T")

log = get_logger()


class Positions:
    """How far the projection is: its offsets stand in a table, beside its data."""

    def __init__(self, *, stale_seconds: float) -> None:
        self._stale_seconds = stale_seconds
        self._found: Mapping[Partition, int] = {}
        self._found_at = float("-inf")

    def take(self, found: Mapping[Partition, int] | None) -> None:
        """Take what was read; nothing was, if it is None."""
        if found is not None:
            self._found, self._found_at = found, time.monotonic()

    def known(self) -> dict[Group, Mapping[Partition, int] | None]:
        """Return them, or None if they are too old."""
        fresh = time.monotonic() - self._found_at < self._stale_seconds
        return {ORDER_STATUS: self._found if fresh else None}


class Looking(Generic[T]):
    """Looks of one kind, again and again: counted, timed, and logged when they begin to fail or to work again."""

    def __init__(self, part: str, look: Callable[[], T], show: Callable[[T | None], None]) -> None:
        self._part = part
        self._take = look
        self._show = show
        self._complaint = ""

    def once(self) -> float:
        """Look, and show what was found, or None after a failure; return how long it took."""
        began = time.monotonic()
        complaint = self._look()
        took_seconds = time.monotonic() - began
        measures.EXPORTER_LOOK_SECONDS.labels(self._part).set(took_seconds)
        measures.EXPORTER_LOOKS.labels(self._part, "failed" if complaint else "done").inc()
        if complaint and not self._complaint:
            log.warning("look.failed", part=self._part, reason=complaint)
        elif self._complaint and not complaint:
            log.info("look.succeeded", part=self._part)
        self._complaint = complaint
        return took_seconds

    def in_background(self, *, seconds: float, stop: Stop) -> None:
        """Look at intervals, on a thread that ends with the process; a look that takes long is followed by a rest."""

        def keep_looking() -> None:
            while not stop():
                stop.wait(max(seconds, self.once() / BUSY_SHARE))

        threading.Thread(target=keep_looking, name=self._part, daemon=True).start()

    def _look(self) -> str:
        """Return why it failed, or an empty text."""
        try:
            self._show(self._take())
        except (Busy, Poison, sa.exc.SQLAlchemyError) as error:
            self._show(None)
            return str(error)
        measures.EXPORTER_DONE_SECONDS.labels(self._part).set_to_current_time()
        return ""


def run(settings: ExporterSettings) -> None:
    """Look and serve. Raises FatalError if the port is taken."""
    state, board = health.Health(), Board()
    engine = create_engine(settings, application="exporter", pool_size=2, target="any")
    positions = Positions(stale_seconds=POSITIONS_STALE_LOOKS * settings.exporter_seconds)
    REGISTRY.register(board)
    with (
        stop_signal() as stop,
        serving_probes(state, settings, (*SHOWN, *metrics.OF_LIBRARY)) as port,
        closing(Observer(settings)) as observer,
    ):
        log.info("exporter.listening", host=settings.health_host, port=port)
        Looking("positions", lambda: read_positions(engine), positions.take).in_background(
            seconds=settings.exporter_seconds, stop=stop
        )
        Looking("tables", lambda: read_books(engine), board.show_books).in_background(
            seconds=settings.exporter_tables_seconds, stop=stop
        )
        kafka = Looking("kafka", lambda: observer.look(positions.known()), board.show_look)
        while not stop():
            kafka.once()
            state.beat()
            state.ready = True  # also without a broker: to report that is what it is for
            stop.wait(settings.exporter_seconds)
