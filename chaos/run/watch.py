"""Watch the outcome topics as a reader does: when each outcome became visible, and how long nothing could.

One thread per lane; it joins no group. Times are monotonic seconds, as in the evidence.
"""

import threading
import time
from collections import deque
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from audit.config import CheckerSettings
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED

KEPT_MAX = 100_000
CALL_SECONDS = 5.0
SAMPLE_SECONDS = 0.02
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Arrival(NamedTuple):
    """A visible outcome: when it was written, when it was seen, and in which partition."""

    written: float
    at: float
    partition: int


class Watch:
    """Reads outcomes from entering to leaving."""

    def __init__(self, settings: CheckerSettings) -> None:
        self._topics = [topic.within(settings.namespace) for topic in (INVENTORY_RESERVED, INVENTORY_FAILED)]
        options: dict[str, str | int | float | bool] = {"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0}
        self._admin = AdminClient(options)
        self._consumer = Consumer(
            {
                **options,
                "group.id": f"watch-{settings.namespace}",  # asked for by the client, never joined
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self._arrivals: deque[Arrival] = deque(maxlen=KEPT_MAX)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._spots = [
            (topic, number)
            for topic in self._topics
            for number in self._admin.list_topics(topic, timeout=CALL_SECONDS).topics[topic].partitions
        ]
        self._consumer.assign([TopicPartition(topic, number, 0) for topic, number in self._spots])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._consumer.close()

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
        held = {spot: stable for spot, (stable, end) in self._ends().items() if stable < end}
        while held:
            if time.monotonic() - since > seconds_max:
                return None
            time.sleep(SAMPLE_SECONDS)
            now = self._ends()
            held = {spot: stable for spot, stable in held.items() if now[spot][0] == stable}
            if not held:
                return time.monotonic() - since
        return 0.0

    def _ends(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return stable end and end per partition."""
        asked = {TopicPartition(*spot): LATEST for spot in self._spots}
        found: list[dict[tuple[str, int], int]] = []
        for isolation in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
            futures = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=CALL_SECONDS)
            found.append({(tp.topic, tp.partition): future.result().offset for tp, future in futures.items()})
        return {spot: (found[0][spot], found[1][spot]) for spot in self._spots}

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                messages = self._consumer.consume(500, 0.05)
            except KafkaException:
                continue
            now, since_epoch = time.monotonic(), time.time()
            self._arrivals.extend(
                Arrival(now - (since_epoch - each.timestamp()[1] / 1000), now, each.partition() or 0)
                for each in messages
                if each.error() is None
            )
