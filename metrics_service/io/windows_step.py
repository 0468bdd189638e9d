"""First step: outcome events -> windows -> partials. Nothing is kept but offsets with their metadata.

A batch is counted in memory; only when a minute closes, or an order came late, a Kafka transaction carries the partials
together with the offsets. A crash before it loses memory alone: the same records come again and count the same. A crash
behind it is none: what was published is below the committed `p`, or in a window that ended at or before `e`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from common import metrics
from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.volume import VolumePartial, minute_name
from common.log import get_logger
from common.telemetry import OBSERVER
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, METRICS, METRICS_PARTIALS, dead_letter_topic
from metrics_service.core import proof
from metrics_service.core.windows import Order, Patience, Windows
from metrics_service.io.start_guard import StartGuard
from onceloop import failpoints
from onceloop.dead_letter import dead_letter
from onceloop.errors import FatalError, Undecodable
from onceloop.metrics import DEAD_LETTERS
from onceloop.offset_proof import OffsetProof
from onceloop.records import CommitPoint, InputRecord, Keep, OutputRecord, Partition, Plan, Publish

SOURCES = (INVENTORY_RESERVED, INVENTORY_FAILED)
BATCH_RECORDS_MAX = 1000
AHEAD_MS_MAX = 3_600_000
"""How far clocks may differ: an order that was decided earlier than this before it was placed holds no time to count
by. It would keep its window, and with it the committed offset, open until that time comes."""
_YEAR_9999_MS = 253_402_300_800_000

UNKNOWN_CURE = "start the release that wrote it, or a newer one; see docs/runbook.md, `Recounting minutes`"

log = get_logger()


class WindowsStep:
    """Count orders per input partition and minute.

    `now_ms`: the wall clock, milliseconds since the epoch. `newest_partials`: what was published last, by any process.
    """

    limit = BATCH_RECORDS_MAX

    def __init__(
        self,
        *,
        codec: Codec,
        namespace: str,
        patience: Patience,
        now_ms: Callable[[], int],
        newest_partials: Callable[[], Iterable[VolumePartial]],
        guard: StartGuard,
    ) -> None:
        self._codec = codec
        self._patience = patience
        self._now_ms = now_ms
        self._newest_partials = newest_partials
        self._guard = guard
        self._proof = OffsetProof(
            done="published",
            cure="restart the group's broker: its log has the right ones; or stop the metrics, then:"
            " python -m metrics_service repair",
        )
        self._published: Mapping[Partition, proof.Published] = {}
        self._reserved_topic = INVENTORY_RESERVED.within(namespace)
        self._partials_topic = METRICS_PARTIALS.within(namespace)
        self._letter_topics = {
            topic.within(namespace): dead_letter_topic(topic, METRICS).within(namespace) for topic in SOURCES
        }
        self._letters_of = {dead_letter_topic(topic, METRICS).within(namespace): topic.name for topic in SOURCES}
        self._windows: dict[Partition, Windows] = {}
        self._letters: list[OutputRecord] = []

    def decide(self, batch: Sequence[InputRecord]) -> Plan:
        """Return partials and dead letters with the offsets that cover them, or keep the batch if there are none."""
        self._guard.give()
        self._proof.give(self._behind)
        now_ms = self._now_ms()
        refilling = [windows for windows in self._windows.values() if windows.refilling]
        self._count(batch, now_ms)
        if any(not windows.refilling for windows in refilling):
            self._point("window.refilled")
        for windows in self._windows.values():
            if len(batch) >= self.limit:
                windows.wait(now_ms)
            windows.close_idle(now_ms)
        self._point("window.updated")
        partials = [partial for windows in self._windows.values() for partial in windows.partials()]
        if not partials and not self._letters:
            return Keep()
        self._point("window.closing")
        points = {partition: windows.point() for partition, windows in self._windows.items()}
        return Publish(
            records=[*(self._record(partial, now_ms) for partial in partials), *self._letters],
            offsets={partition: point for partition, point in points.items() if point is not None},
        )

    def pending(self) -> bool:
        """Return True if the wall clock closes a window now."""
        now_ms = self._now_ms()
        return any(windows.idle(now_ms) for windows in self._windows.values())

    def settled(self, published: Publish) -> None:
        """Go on from what is committed, and count it."""
        late = sum(partial.late for windows in self._windows.values() for partial in windows.partials())
        metrics.METRICS_LATE.inc(late)
        metrics.METRICS_PARTIALS.inc(len(published.records) - len(self._letters))
        for letter in self._letters:
            OBSERVER.count(DEAD_LETTERS, self._letters_of[letter.topic])
        for partition, point in published.offsets.items():
            self._windows[partition].settled(point)
        self._letters.clear()

    def narrow(self) -> None:
        """Do nothing: no record is poison to counting."""

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Forget all windows; those that were open are filled again from the committed offsets on.

        Raises ReportedError for offset metadata that another version wrote, or for another topic.
        """
        now_ms = self._now_ms()
        self._letters.clear()
        self._proof.demand(stable)
        try:
            self._windows = {
                partition: Windows(partition, point, self._patience, now_ms, self._guard.id_of(partition))
                for partition, point in stable.items()
            }
        except (ValueError, KeyError, TypeError) as error:
            raise FatalError(f"group metrics: {error}", cure=UNKNOWN_CURE) from error
        self._guard.demand(stable)

    def ready(self) -> bool:
        """Return True: only a schema was missing, and asking again is the way to see whether it is there."""
        return True

    def untouched(self, partitions: frozenset[Partition]) -> frozenset[Partition]:
        """Return those of which no minute is published. Raises Busy."""
        return partitions - proof.published(self._newest_partials()).keys()

    def _behind(self, stable: Mapping[Partition, CommitPoint]) -> Mapping[Partition, str]:
        """Return where the group stands behind what is published; that is read once, until nothing is behind it."""
        self._published = self._published or proof.published(self._newest_partials())
        behind = proof.behind(stable, self._published)
        if not behind:
            self._published = {}
        return behind

    def _count(self, batch: Sequence[InputRecord], now_ms: int) -> None:
        for record in batch:
            windows = self._windows[record.partition]
            try:
                order = self._order(record)
            except Undecodable as cause:
                if windows.skip(record.offset):
                    self._letters.append(self._letter(record, cause))
            else:
                windows.count(record.offset, order, now_ms)
        self._point("decoded")

    def _order(self, record: InputRecord) -> Order:
        """Return what counts of an outcome event. Raises Undecodable, Busy."""
        reserved = record.partition.topic == self._reserved_topic
        event: InventoryReserved | InventoryFailed = (
            self._codec.decode(InventoryReserved, record.value)
            if reserved
            else self._codec.decode(InventoryFailed, record.value)
        )
        if not 0 < event.placed_at_ms < min(event.decided_at_ms + AHEAD_MS_MAX, _YEAR_9999_MS):
            raise Undecodable("content", f"placed at {event.placed_at_ms}, decided at {event.decided_at_ms}")
        return Order(event.placed_at_ms, reserved, sum(line.quantity for line in event.lines))

    def _record(self, partial: VolumePartial, now_ms: int) -> OutputRecord:
        name = f"{partial.topic}/{partial.partition}/{minute_name(partial.minute_ms)}"
        return OutputRecord(
            topic=self._partials_topic,
            key=name.encode(),
            value=self._codec.encode(partial),
            headers=envelope.headers(
                event_id=f"{name}/{partial.until}/{'late' if partial.late else 'on-time'}",
                event_type="metrics.partial",
                source="/metrics",
                time_ms=now_ms,
            ),
        )

    def _letter(self, record: InputRecord, cause: Undecodable) -> OutputRecord:
        topic = record.partition.topic
        log.warning(
            "record.dead_lettered",
            topic=topic,
            partition=record.partition.number,
            offset=record.offset,
            error_class=cause.error_class,
            reason=cause.reason,
        )
        self._point("dlq.isolated")
        return dead_letter(record, cause, topic=self._letter_topics[topic])

    def _point(self, name: str) -> None:
        failpoints.point(f"metrics:{name}")
