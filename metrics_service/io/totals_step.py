"""Second step: partials -> one total per minute. Nothing is kept but an offset with its metadata.

Partials are merged in memory for a moment, since those of a minute come close together; then one Kafka transaction
carries the totals that changed together with the offset. A crash before it loses memory alone; behind it, the partials
are below the committed `p` and only fill memory again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from common import metrics
from common.events import envelope
from common.events.codec import Codec
from common.events.volume import MinuteVolume, VolumePartial, minute_name
from common.log import get_logger
from common.telemetry import OBSERVER
from common.topics import METRICS_PARTIALS, METRICS_TOTALS, MINUTE_VOLUMES, dead_letter_topic
from metrics_service.core.totals import Totals
from metrics_service.io.start_guard import StartGuard
from onceloop import failpoints
from onceloop.dead_letter import dead_letter
from onceloop.errors import FatalError, Undecodable
from onceloop.metrics import DEAD_LETTERS
from onceloop.records import CommitPoint, InputRecord, Keep, OutputRecord, Partition, Plan, Publish

BATCH_RECORDS_MAX = 1000
FORGET_EVERY_MS = 3_600_000
"""How long a process keeps even what lies behind the horizon: one that begins with weeks of history gets it partition
by partition, the old minutes of one after the new minutes of another."""

UNKNOWN_CURE = "start the release that wrote it, or a newer one; see docs/runbook.md, `Recounting minutes`"

log = get_logger()


class TotalsStep:
    """Sum up minutes. `now_ms`: the wall clock, milliseconds since the epoch. Times in milliseconds.

    `settle_ms`: how long a total waits for further partials. `empty_minute_ms`: how long after its end a minute counts
    as empty; 0: never. `newest_totals`: what was published last, by any process.
    """

    limit = BATCH_RECORDS_MAX

    def __init__(
        self,
        *,
        codec: Codec,
        namespace: str,
        settle_ms: int,
        empty_minute_ms: int,
        horizon_ms: int,
        now_ms: Callable[[], int],
        newest_totals: Callable[[], Iterable[MinuteVolume]],
        guard: StartGuard,
    ) -> None:
        self._codec = codec
        self._settle_ms = settle_ms
        self._empty_minute_ms = empty_minute_ms
        self._horizon_ms = horizon_ms
        self._now_ms = now_ms
        self._newest_totals = newest_totals
        self._guard = guard
        self._published: Mapping[int, int] | None = None
        self._totals_topic = MINUTE_VOLUMES.within(namespace)
        self._letter_topic = dead_letter_topic(METRICS_PARTIALS, METRICS_TOTALS).within(namespace)
        self._forget_at_ms = now_ms() + FORGET_EVERY_MS
        self._partition: Partition | None = None
        self._totals = Totals(CommitPoint(0), horizon_ms=horizon_ms)
        self._letters: list[OutputRecord] = []
        self._changed_since_ms: int | None = None
        self._quiet_since_ms = now_ms()

    def decide(self, batch: Sequence[InputRecord]) -> Plan:
        """Return the totals that are due and dead letters, with the offset that covers them, or keep the batch."""
        self._guard.give()
        now_ms = self._now_ms()
        self._merge(batch)
        if len(batch) >= self.limit:
            self._quiet_since_ms = now_ms
        if self._totals.changed and self._changed_since_ms is None:
            self._changed_since_ms = now_ms
        if self._empty_due(now_ms):
            self._totals.add_empty(now_ms - self._empty_minute_ms)
        elif not self._letters and not self._settled_long_enough(now_ms):
            return Keep()
        totals, point = self._news(), self._totals.point()
        if point is None or self._partition is None:
            return Keep()
        return Publish(
            records=[*(self._record(total, now_ms) for total in totals), *self._letters],
            offsets={self._partition: point},
        )

    def pending(self) -> bool:
        """Return True if totals have waited long enough, or a minute went by without an order."""
        now_ms = self._now_ms()
        return self._partition is not None and (self._settled_long_enough(now_ms) or self._empty_due(now_ms))

    def settled(self, published: Publish) -> None:
        """Go on from what is committed, and count it."""
        for total in self._news():
            metrics.METRICS_MINUTES.labels("counted" if total.revision else "empty").inc()
        OBSERVER.count(DEAD_LETTERS, METRICS_PARTIALS.name, by=len(self._letters))
        for point in published.offsets.values():
            self._totals.settled(point)
        self._letters.clear()
        self._changed_since_ms = None
        now_ms = self._now_ms()
        if now_ms >= self._forget_at_ms:
            self._forget_at_ms = now_ms + FORGET_EVERY_MS
            self._totals.forget(now_ms)

    def narrow(self) -> None:
        """Do nothing: no record is poison to adding up."""

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Forget all minutes; those within the horizon are filled again from the committed offset on.

        Raises ReportedError for offset metadata that another version wrote, or for another topic.
        """
        assert len(stable) <= 1, "partials have one partition, or minutes would be split"  # noqa: S101 - a broken programmer
        self._letters.clear()
        self._published = None
        self._changed_since_ms = None
        self._quiet_since_ms = self._now_ms()
        self._partition = next(iter(stable), None)
        point = CommitPoint(0) if self._partition is None else stable[self._partition]
        try:
            topic_id = "" if self._partition is None else self._guard.id_of(self._partition)
            self._totals = Totals(point, horizon_ms=self._horizon_ms, topic_id=topic_id)
        except (ValueError, KeyError, TypeError) as error:
            raise FatalError(f"group metrics-totals: {error}", cure=UNKNOWN_CURE) from error
        self._guard.demand(stable)

    def ready(self) -> bool:
        """Return True: only a schema was missing, and asking again is the way to see whether it is there."""
        return True

    def untouched(self, partitions: frozenset[Partition]) -> frozenset[Partition]:  # noqa: ARG002 - none of them is
        """Return none: partials have one partition, and it was there from the beginning."""
        return frozenset()

    def _news(self) -> Sequence[MinuteVolume]:
        """Return the totals that are due, without those that were published when this process began to read here.

        There are such ones only if the committed offset was an old one, as a broker may answer it while it loads its
        groups: then all else comes out the same once more. Raises Busy if the topic cannot be read.
        """
        totals = self._totals.totals()
        if totals and self._published is None:
            # Later ones stand behind earlier ones, with a higher revision.
            self._published = {total.minute_ms: total.revision for total in self._newest_totals()}
        known = self._published or {}
        return [total for total in totals if total.revision > known.get(total.minute_ms, -1)]

    def _settled_long_enough(self, now_ms: int) -> bool:
        since_ms = self._changed_since_ms
        return since_ms is not None and not 0 <= now_ms - since_ms < self._settle_ms

    def _empty_due(self, now_ms: int) -> bool:
        """A minute is empty only if nothing waits to be read."""
        if not self._empty_minute_ms or abs(now_ms - self._quiet_since_ms) < self._settle_ms:
            return False
        return self._totals.empty_minutes_due(now_ms - self._empty_minute_ms)

    def _merge(self, batch: Sequence[InputRecord]) -> None:
        for record in batch:
            try:
                partial = self._codec.decode(VolumePartial, record.value)
            except Undecodable as cause:
                if self._totals.skip(record.offset):
                    self._letters.append(self._letter(record, cause))
                continue
            if not self._totals.merge(record.offset, partial):
                reason = f"the total of {minute_name(partial.minute_ms)} is no longer kept"
                self._letters.append(self._letter(record, Undecodable("horizon", reason)))

    def _record(self, total: MinuteVolume, now_ms: int) -> OutputRecord:
        name = minute_name(total.minute_ms)
        return OutputRecord(
            topic=self._totals_topic,
            key=name.encode(),
            value=self._codec.encode(total),
            headers=envelope.headers(
                event_id=f"{name}/{total.revision}", event_type="metrics.minute", source="/metrics", time_ms=now_ms
            ),
        )

    def _letter(self, record: InputRecord, cause: Undecodable) -> OutputRecord:
        log.warning(
            "record.dead_lettered",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            error_class=cause.error_class,
            reason=cause.reason,
        )
        self._point("dlq.isolated")
        return dead_letter(record, cause, topic=self._letter_topic)

    def _point(self, name: str) -> None:
        failpoints.point(f"metrics-totals:{name}")
