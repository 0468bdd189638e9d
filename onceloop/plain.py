"""The loop of a plain read_committed consumer: take, let the handler work, settle the offsets. One thread.

At least once: offsets move after the work, so whatever goes wrong in between brings the same records again and never
skips one. Where the offsets live is the only thing in which such consumers differ, hence `Offsets`:

- `OffsetsInGroup`: in Kafka, committed once the work of a batch is done. The handler must bear a repetition.
- `OffsetsWithData`: in the handler's own store, written in the transaction of the work. The work happens once.

One door leads out of everything unexpected (a new assignment, a dependency that does not answer, a refused commit):
drop the batch in hand, ask `Offsets` where reading goes on, seek there. Nothing is carried over in memory.

Another one leads out of poison, and loses nothing: the batch is halved at once, each part worked on and settled by
itself, until the culprit stands alone; rejected once more, it is the handler's to put aside (`Handler.reject`). So is a
record for which the handler raises an unforeseen exception, once `crashes` says that the record is the reason.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from onceloop import failpoints, metrics
from onceloop.crashes import CRASHES_MAX, SURROUNDINGS, Crashes, coordinate, unforeseen
from onceloop.errors import Busy, Poison
from onceloop.health import Health
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.topic_mark import mark, marked_id, of_other_topics
from onceloop.kafka.topic_watch import recreated
from onceloop.lifecycle import Stop
from onceloop.records import CommitPoint, Handler, InputRecord, Partition, next_offsets
from onceloop.runtime import REAL, Clock, Runtime
from onceloop.telemetry import Observer

BATCH_RECORDS_MAX = 500
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 5.0
LOOKED_AHEAD_MAX = 5


def _watch_nothing() -> None:
    """Find nothing."""


class Offsets(Protocol):
    """Where the progress of a consumer is kept.

    `apart`: the offsets move by `settle` alone, so that work may run ahead of them, and is then repeated.
    """

    apart: bool

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:
        """Return the next offset to read for each owned partition. Raises Busy if it cannot be found out now."""

    def settle(self, batch: Sequence[InputRecord]) -> None:
        """Make the progress durable, if the handler has not done so. Raises Busy to have the batch again."""


class OffsetsInGroup:
    """Keep them in the consumer group: committed after the work, so a crash in between repeats one batch.

    A commit is refused when the group has moved on meanwhile; the records then come again, here or elsewhere. Each
    carries the id of its topic. One that does not may have been set by hand: `prove` raises FatalError if it skips
    records, or Busy if that cannot be found out now.
    """

    apart = True

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
        """Return the committed offsets. Raises ReportedError if they belong to another topic, or skip records."""
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
    """Raise ReportedError if one of these offsets was stored for a topic that was recreated since."""
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

    The handler stores `next_offsets(batch)` in the transaction of its work: nothing is left to settle. The
    group has first offsets alone, written by provisioning; where one of them was set ahead by hand, nothing is skipped.
    """

    apart = False

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
        """Return the stored positions, for the rest where the group began. Raises ReportedError as above."""
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
    surroundings: tuple[type[Exception], ...] = (),
    runtime: Runtime = REAL,
) -> None:
    """Work until `stop`; the batch in hand is finished first.

    Effects in order: the handler's work, then the offsets. A crash between the two repeats the batch. While something
    is Busy the partitions are paused and polling goes on, so that the membership stays; pauses grow from 0.5 to 5 s.
    A record that the handler rejects for good is put aside by it, and the offsets go on behind it.

    `watch` is called in every turn, idle or not; it must not wait. `surroundings`: exceptions that, beside those of
    `crashes`, speak of the world around and never of a record. Raises ReportedError if the group refuses this member,
    if an offset is gone, or for what `watch` finds. An unforeseen exception passes through unchanged,
    unless one record causes it.
    """
    work = _Work(handler, offsets, surroundings, runtime)
    observer = runtime.observer
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
                dropped = not _rewind(consumer, due, observer)
                consumer.report_lag(due)
                health.ready = consumer.joined and not dropped
            elif batch:
                observer.measure(metrics.BATCH_RECORDS, len(batch))
                work.on(batch)
                pause_seconds = PAUSE_SECONDS_MIN
                due.update({partition: point.offset for partition, point in next_offsets(batch).items()})
                consumer.report_lag(due)
        except Busy as busy:
            dropped, health.ready = True, False
            if work.progressed():
                pause_seconds = PAUSE_SECONDS_MIN
            observer.log("warning", "work.paused", reason=str(busy), records=len(batch), seconds=pause_seconds)
            observer.count(metrics.PAUSES)
            _sit_out(consumer, pause_seconds, stop=stop, health=health, clock=runtime.clock)
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)


class _Work:
    """Works on batches and settles them; what holds trouble in halves, one behind the other.

    No offset passes unfinished work. Trouble is poison, or an unforeseen exception.
    """

    def __init__(
        self, handler: Handler, offsets: Offsets, surroundings: tuple[type[Exception], ...], runtime: Runtime
    ) -> None:
        self._surroundings = (*SURROUNDINGS, *surroundings)
        self._observer = runtime.observer
        self._clock = runtime.clock
        self._handler = handler
        self._offsets = offsets
        self._crashes = Crashes()
        self._batch: Sequence[InputRecord] = ()
        self._settled = False

    def progressed(self) -> bool:
        """Return whether anything was settled since the last call."""
        settled, self._settled = self._settled, False
        return settled

    def on(self, batch: Sequence[InputRecord]) -> None:
        """Work on a batch; the partitions of records that raised before come last, so that the others do not wait."""
        self._crashes.turn()
        doubtful = {partition for partition, _ in self._crashes.known}
        self._batch = sorted(batch, key=lambda record: record.partition in doubtful) if doubtful else batch
        self._on_part(self._batch)

    def _on_part(self, part: Sequence[InputRecord]) -> None:
        known = self._crashes.known
        if len(part) == 1:
            self._on_record(part[0])
        elif (known and not known.isdisjoint(map(coordinate, part))) or self._trouble_with(part) is not None:
            half = len(part) // 2
            self._on_part(part[:half])
            self._on_part(part[half:])
        else:
            self._settle(part)
            self._crashes.passed(len(part))

    def _on_record(self, record: InputRecord) -> None:
        trouble = self._trouble_with([record])
        if isinstance(trouble, Poison):
            trouble = self._trouble_with([record])  # what rejected it may have been of that moment
        if trouble is None:
            self._settle([record])
            self._crashes.passed(1, at=coordinate(record))
            return
        self._reject(record, trouble if isinstance(trouble, Poison) else self._judged(record, trouble))
        self._settle([record])
        self._crashes.forget(coordinate(record))

    def _judged(self, record: InputRecord, error: Exception) -> Poison:
        """Return what the record is given up for.

        Raises Busy to try it again after a pause, and the error itself if nothing says that the record is the reason.
        """
        at = coordinate(record)
        if (crashes := self._crashes.met(at)) < CRASHES_MAX:
            partition = record.partition
            raise Busy(
                f"{partition.topic}[{partition.number}] at {record.offset} raised {type(error).__name__}, {crashes} of"
                f" {CRASHES_MAX} times"
            ) from error
        if not self._crashes.stands_out(at) and not self._others_go_through(record):
            raise error
        return unforeseen(error)

    def _others_go_through(self, culprit: InputRecord) -> bool:
        """Work on records behind this one, without settling them, until one goes through."""
        if not self._offsets.apart:
            return False
        behind = [r for r in self._batch if r.partition == culprit.partition and r.offset > culprit.offset]
        return any(self._trouble_with([record]) is None for record in behind[:LOOKED_AHEAD_MAX])

    def _trouble_with(self, records: Sequence[InputRecord]) -> Exception | None:
        """Return None once they are worked on, or what the handler found in them."""
        try:
            with self._timed("handle"):
                self._handler.handle(records)
        except Poison as poison:
            self._observer.log("warning", "batch.poisoned", records=len(records), cause=str(poison))
            return poison
        except self._surroundings:
            raise
        except Exception as error:  # noqa: BLE001 - judged by what becomes of the record alone
            self._observer.log("error", "batch.crashed", records=len(records), exc_info=error)
            return error
        return None

    def _settle(self, records: Sequence[InputRecord]) -> None:
        with self._timed("settle"):
            self._offsets.settle(records)
        self._settled = True

    def _reject(self, record: InputRecord, poison: Poison) -> None:
        self._observer.log(
            "error",
            "record.rejected",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            cause=str(poison),
        )
        self._handler.reject(record, poison)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = self._clock.perf_counter()
        try:
            yield
        finally:
            self._observer.measure(metrics.BATCH_SECONDS, self._clock.perf_counter() - started, stage)


def _rewind(consumer: GroupConsumer, starts: Mapping[Partition, int], observer: Observer) -> bool:
    """Read on where the offsets stand; return False if the assignment changed meanwhile (then once more)."""
    if not consumer.seek(starts):
        return False
    observer.count(metrics.RECOVERIES, "consumer")
    named = {f"{topic}[{number}]": at for (topic, number), at in sorted(starts.items())}
    observer.log("info", "partitions.rewound", starts=named)
    return True


def _sit_out(consumer: GroupConsumer, seconds: float, *, stop: Stop, health: Health, clock: Clock) -> None:
    """Poll paused for so long. Records that slip through are dropped: a rewind follows."""
    consumer.pause()
    deadline = clock.monotonic() + seconds
    while not stop() and clock.monotonic() < deadline:
        health.beat()
        consumer.take(1)
