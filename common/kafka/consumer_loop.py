"""The loop of a plain read_committed consumer: take, let the handler work, settle the offsets. One thread.

At least once: offsets move after the work, so whatever goes wrong in between brings the same records again and never
skips one. Where the offsets live is the only thing in which such consumers differ, hence `Offsets`:

- `OffsetsInGroup`: in Kafka, committed once the work of a batch is done. The handler must bear a repetition.
- `OffsetsWithData`: in the handler's own store, written in the transaction of the work. The work happens once.

One door leads out of everything unexpected (a new assignment, a dependency that does not answer, a refused commit):
drop the batch in hand, ask `Offsets` where reading goes on, seek there. Nothing is carried over in memory.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from common import failpoints, metrics
from common.errors import Busy
from common.health import Health
from common.kafka.consumer import GroupConsumer
from common.kafka.loop_core import next_offsets
from common.kafka.records import Handler, InputRecord, Partition
from common.lifecycle import Stop
from common.log import get_logger

BATCH_RECORDS_MAX = 500
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 5.0

log = get_logger()


class Offsets(Protocol):
    """Where the progress of a consumer is kept."""

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return the next offset to read for each owned partition. Raises Busy if it cannot be told now."""

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Make the progress durable, if the handler has not done so. Raises Busy to have the batch again."""


class OffsetsInGroup:
    """Keep them in the consumer group: committed after the work, so a crash in between repeats one batch.

    A commit is refused when the group has moved on meanwhile; the records then come again, here or elsewhere.
    """

    def __init__(self, consumer: GroupConsumer, *, service: str) -> None:
        self._consumer = consumer
        self._service = service

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:  # noqa: ARG002 - the group knows
        """Return the committed offsets."""
        return {partition: point.offset for partition, point in self._consumer.committed().items()}

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Commit the batch, and wait for the group's answer."""
        self._consumer.commit(next_offsets(batch))
        failpoints.point(f"{self._service}:offset.committed")


class PositionStore(Protocol):
    """What a handler's store offers that keeps the offsets beside its data.

    It must refuse a batch (Busy) whose first offset lies below the stored position: a worker that slept through the
    loss of its partitions wakes up with such a batch, and the refusal makes it rewind.
    """

    def positions(self, partitions: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return the next offset to read per partition; one that was never written is left out. Raises Busy."""


class OffsetsWithData:
    """Keep them in the handler's store; a partition that it has never seen starts at the group's first offset.

    The handler stores `loop_core.next_offsets(batch)` in the transaction of its work: nothing is left to settle.
    """

    def __init__(self, store: PositionStore, consumer: GroupConsumer) -> None:
        self._store = store
        self._consumer = consumer

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return the stored positions; ask the group for the rest."""
        known = self._store.positions(owned)
        if known.keys() >= owned:
            return known
        return {partition: point.offset for partition, point in self._consumer.committed().items()} | dict(known)

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Do nothing: the handler's transaction did."""


def run(
    handler: Handler,
    consumer: GroupConsumer,
    *,
    offsets: Offsets,
    stop: Stop,
    health: Health,
    limit: int = BATCH_RECORDS_MAX,
) -> None:
    """Work until `stop`; the batch in hand is finished first.

    Effects in order: the handler's work, then the offsets. A crash between the two repeats the batch. While something
    is Busy the partitions are paused and polling goes on, so that the membership stays; pauses grow from 0.5 to 5 s.
    Raises FatalError if the group refuses this member or an offset is gone.
    """
    dropped = False
    due: dict[Partition, int] = {}
    pause_seconds = PAUSE_SECONDS_MIN
    while not stop():
        health.beat()
        batch = consumer.take(limit)
        try:
            if dropped or consumer.moved:
                due = dict(offsets.starts(consumer.owned))
                dropped = not _rewind(consumer, due)
                consumer.tell_lag(due)
                health.ready = consumer.joined and not dropped
            elif batch:
                _work(batch, handler, offsets)
                pause_seconds = PAUSE_SECONDS_MIN
                due.update({partition: point.offset for partition, point in next_offsets(batch).items()})
                consumer.tell_lag(due)
        except Busy as busy:
            dropped, health.ready = True, False
            log.warning("work.paused", reason=str(busy), records=len(batch), seconds=pause_seconds)
            _sit_out(consumer, pause_seconds, stop=stop, health=health)
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)


def _work(batch: Sequence[InputRecord], handler: Handler, offsets: Offsets) -> None:
    metrics.BATCH_RECORDS.observe(len(batch))
    with metrics.BATCH_SECONDS.labels("handle").time():
        handler.handle(batch)
    with metrics.BATCH_SECONDS.labels("settle").time():
        offsets.settle(batch)


def _rewind(consumer: GroupConsumer, starts: Mapping[Partition, int]) -> bool:
    """Read on where the offsets stand; return False if the assignment changed meanwhile (then once more)."""
    if not consumer.seek(starts):
        return False
    metrics.RECOVERIES.labels("consumer").inc()
    log.info("partitions.rewound", starts={f"{topic}[{number}]": at for (topic, number), at in sorted(starts.items())})
    return True


def _sit_out(consumer: GroupConsumer, seconds: float, *, stop: Stop, health: Health) -> None:
    """Poll paused for so long. Records that slip through are dropped: a rewind follows."""
    metrics.PAUSES.inc()
    consumer.pause()
    deadline = time.monotonic() + seconds
    while not stop() and time.monotonic() < deadline:
        health.beat()
        consumer.take(1)
