"""The loop of a plain read_committed consumer: take, let the handler work, settle the offsets. One thread.

At least once: offsets move after the work, so whatever goes wrong in between brings the same records again and never
skips one. Where the offsets live is the only thing in which such consumers differ, hence `Offsets`:

- `OffsetsInGroup`: in Kafka, committed once the work of a batch is done. The handler must bear a repetition.
- `OffsetsWithData`: in the handler's own store, written in the transaction of the work. The work happens once.

One door leads out of everything unexpected (a new assignment, a dependency that does not answer, a refused commit):
drop the batch in hand, ask `Offsets` where reading goes on, seek there. Nothing is carried over in memory.

Another one leads out of poison, and loses nothing: the batch is halved at once, each part worked on and settled by
itself, until the culprit stands alone; rejected once more, it is the handler's to put aside (`Handler.reject`).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from common import failpoints, metrics
from common.errors import Busy, Poison
from common.health import Health
from common.kafka.consumer import GroupConsumer
from common.kafka.loop_core import next_offsets
from common.kafka.records import CommitPoint, Handler, InputRecord, Partition
from common.kafka.topic_mark import mark, marked_id, of_other_topics
from common.kafka.topic_watch import recreated
from common.lifecycle import Stop
from common.log import get_logger

BATCH_RECORDS_MAX = 500
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 5.0

log = get_logger()


def _watch_nothing() -> None:
    """Find nothing."""


class Offsets(Protocol):
    """Where the progress of a consumer is kept."""

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return the next offset to read for each owned partition. Raises Busy if it cannot be told now."""

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Make the progress durable, if the handler has not done so. Raises Busy to have the batch again."""


class OffsetsInGroup:
    """Keep them in the consumer group: committed after the work, so a crash in between repeats one batch.

    A commit is refused when the group has moved on meanwhile; the records then come again, here or elsewhere. Each
    carries the id of its topic. One that does not may have been set by hand: `prove` raises FatalError if it skips
    records, or Busy if that cannot be found out now.
    """

    def __init__(
        self,
        consumer: GroupConsumer,
        *,
        service: str,
        topic_ids: Mapping[str, str],
        prove: Callable[[Mapping[Partition, int]], None],
    ) -> None:
        self._consumer = consumer
        self._service = service
        self._topic_ids = topic_ids
        self._prove = prove
        self._proven: dict[Partition, CommitPoint] = {}

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:  # noqa: ARG002 - the group knows
        """Return the committed offsets. Raises PipelineError if they belong to another topic, or skip records."""
        points = self._consumer.committed()
        refuse_other_topics(points, self._topic_ids)
        doubtful = {
            at: point for at, point in points.items() if marked_id(point) is None and self._proven.get(at) != point
        }
        if doubtful:
            self._prove({at: point.offset for at, point in doubtful.items()})
            self._proven.update(doubtful)
        return {at: point.offset for at, point in points.items()}

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Commit the batch, and wait for the group's answer."""
        self._consumer.commit(
            {
                at: CommitPoint(point.offset, mark(self._topic_ids[at.topic]))
                for at, point in next_offsets(batch).items()
            }
        )
        failpoints.point(f"{self._service}:offset.committed")


def refuse_other_topics(points: Mapping[Partition, CommitPoint], topic_ids: Mapping[str, str]) -> None:
    """Raise PipelineError if one of these offsets was stored for a topic that was recreated since."""
    for topic, remembered in of_other_topics(points, topic_ids).items():
        raise recreated(topic, remembered, topic_ids[topic])


class PositionStore(Protocol):
    """What a handler's store offers that keeps the offsets beside its data.

    It must refuse a batch (Busy) whose first offset lies below the stored position: a worker that slept through the
    loss of its partitions wakes up with such a batch, and the refusal makes it rewind.
    """

    def positions(self, partitions: frozenset[Partition]) -> Mapping[Partition, CommitPoint]:
        """Return the next offset to read per partition, marked with its topic's id where that is known.

        One that was never written is left out. Raises Busy.
        """


class OffsetsWithData:
    """Keep them in the handler's store; a partition that it has never seen starts at the earliest record.

    The handler stores `loop_core.next_offsets(batch)` in the transaction of its work: nothing is left to settle. The
    group has first offsets alone, written by provisioning; where one of them was set ahead by hand, nothing is skipped.
    """

    def __init__(
        self,
        store: PositionStore,
        consumer: GroupConsumer,
        *,
        topic_ids: Mapping[str, str],
        earliest: Callable[[Iterable[Partition]], Mapping[Partition, int]],
    ) -> None:
        self._store = store
        self._consumer = consumer
        self._topic_ids = topic_ids
        self._earliest = earliest

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return the stored positions, for the rest where the group began. Raises PipelineError as above."""
        known = self._store.positions(owned)
        refuse_other_topics(known, self._topic_ids)
        starts = {partition: point.offset for partition, point in known.items()}
        if fresh := owned - known.keys():
            group = {partition: point.offset for partition, point in self._consumer.committed().items()}
            first = self._earliest([partition for partition in fresh if group[partition]])
            # Retention overtook what lies below the earliest: the group's own offset stays, so that it is named.
            starts |= {partition: min(first.get(partition, 0), group[partition]) for partition in fresh}
        return starts

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Do nothing: the handler's transaction did."""


def run(
    handler: Handler,
    consumer: GroupConsumer,
    *,
    offsets: Offsets,
    stop: Stop,
    health: Health,
    watch: Callable[[], None] = _watch_nothing,
    limit: int = BATCH_RECORDS_MAX,
) -> None:
    """Work until `stop`; the batch in hand is finished first.

    Effects in order: the handler's work, then the offsets. A crash between the two repeats the batch. While something
    is Busy the partitions are paused and polling goes on, so that the membership stays; pauses grow from 0.5 to 5 s.
    A record that the handler rejects for good is put aside by it, and the offsets go on behind it.

    `watch` is called in every turn, idle or not; it must not wait. Raises PipelineError if the group refuses this
    member, if an offset is gone, or for what `watch` finds.
    """
    dropped = False
    due: dict[Partition, int] = {}
    pause_seconds = PAUSE_SECONDS_MIN
    while not stop():
        watch()
        health.beat()
        health.unread = consumer.unread
        batch = consumer.take(limit)
        try:
            if dropped or consumer.moved:
                due = dict(offsets.starts(consumer.owned))
                dropped = not _rewind(consumer, due)
                consumer.tell_lag(due)
                health.ready = consumer.joined and not dropped
            elif batch:
                metrics.BATCH_RECORDS.observe(len(batch))
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
    """Work and settle; what holds poison in halves, one behind the other, so that no offset passes unfinished work.

    A record that is poison alone is tried once more: what rejected it may have been of that moment.
    """
    poison = _poison_of(batch, handler)
    if poison is not None and len(batch) > 1:
        half = len(batch) // 2
        _work(batch[:half], handler, offsets)
        _work(batch[half:], handler, offsets)
        return
    if poison is not None and (poison := _poison_of(batch, handler)) is not None:
        _reject(batch[0], poison, handler)
    with metrics.BATCH_SECONDS.labels("settle").time():
        offsets.settle(batch)


def _poison_of(batch: Sequence[InputRecord], handler: Handler) -> Poison | None:
    """Return None once the batch is worked on, or what the handler found in it."""
    try:
        with metrics.BATCH_SECONDS.labels("handle").time():
            handler.handle(batch)
    except Poison as poison:
        log.warning("batch.poisoned", records=len(batch), cause=str(poison))
        return poison
    return None


def _reject(record: InputRecord, poison: Poison, handler: Handler) -> None:
    log.error(
        "record.rejected",
        topic=record.partition.topic,
        partition=record.partition.number,
        offset=record.offset,
        cause=str(poison),
    )
    handler.reject(record, poison)


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
