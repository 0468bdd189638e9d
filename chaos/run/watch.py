"""Watch the outcome topics as a reader does: when each outcome became visible, and how long nothing could.

One thread per lane; it joins no group. Times are monotonic seconds, as in the evidence.
"""

import time
from collections import deque
from contextlib import ExitStack
from typing import NamedTuple, Self

from confluent_kafka import IsolationLevel, KafkaException

from audit.config import CheckerSettings
from audit.readers.cluster import LATEST, Cluster
from audit.terms import Offsets
from chaos.run.threads import repeated
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED

KEPT_MAX = 100_000
READ_MAX, READ_SECONDS = 500, 0.05
SAMPLE_SECONDS = 0.02


class Arrival(NamedTuple):
    """A visible outcome: when it was written, when it was seen, and in which partition."""

    written: float
    at: float
    partition: int


class Watch:
    """Reads outcomes from entering to leaving."""

    def __init__(self, settings: CheckerSettings) -> None:
        self._cluster = Cluster(settings)
        self._begins = self._cluster.begins((INVENTORY_RESERVED, INVENTORY_FAILED))
        self._consumer = self._cluster.consumer(self._begins, {"reconnect.backoff.max.ms": 500})
        self._arrivals: deque[Arrival] = deque(maxlen=KEPT_MAX)
        self._reading = ExitStack()

    def __enter__(self) -> Self:
        self._reading.callback(self._consumer.close)
        self._reading.enter_context(repeated("watch", self._read, every_seconds=0))
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.close()

    def first_after(self, moment: float) -> float | None:
        """Return the seconds from a moment to the sight of the first outcome written after it; None without one."""
        return next((each.at - moment for each in list(self._arrivals) if each.written > moment), None)

    def all_partitions_after(self, moment: float, partitions: frozenset[int]) -> float | None:
        """Return the seconds from a moment until each of these partitions had an outcome; None if one has none."""
        first: dict[int, float] = {}
        for each in list(self._arrivals):
            if each.written > moment:
                first.setdefault(each.partition, each.at - moment)
        found = [first.get(partition) for partition in partitions]
        return None if None in found else max((seconds for seconds in found if seconds is not None), default=None)

    def stall(self, since: float, *, seconds_max: float = 20.0) -> float | None:
        """Return how long readers are held up by what is open now, counted from `since`; 0 if nothing is.

        A partition is held up while its stable end stays below its end. None if that outlasts the time.
        """
        stable, ends = self._stable_ends(), self._cluster.offsets(self._begins, LATEST)
        held = {spot: offset for spot, offset in stable.items() if offset < ends[spot]}
        while held:
            if time.monotonic() - since > seconds_max:
                return None
            time.sleep(SAMPLE_SECONDS)
            now = self._stable_ends()
            held = {spot: offset for spot, offset in held.items() if now[spot] == offset}
            if not held:
                return time.monotonic() - since
        return 0.0

    def _stable_ends(self) -> Offsets:
        return self._cluster.offsets(self._begins, LATEST, isolation=IsolationLevel.READ_COMMITTED)

    def _read(self) -> None:
        try:
            messages = self._consumer.consume(READ_MAX, READ_SECONDS)
        except KafkaException:
            return
        now, since_epoch = time.monotonic(), time.time()
        self._arrivals.extend(
            Arrival(now - (since_epoch - each.timestamp()[1] / 1000), now, each.partition() or 0)
            for each in messages
            if each.error() is None
        )
