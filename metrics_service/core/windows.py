"""Count one input partition's orders in windows of a minute of event time. Pure: time is an argument, never asked for.

Only four numbers outlive the process: the committed offset, and beside it `{v, p, w, e}`. They are committed together
with the counts that they speak of, so that the next reader of the partition continues exactly there:

- p, what was read to: records below it are read again only to fill the windows that were open, and publish nothing;
- w, the watermark: the latest time at which an order was placed that came so far;
- e, the end of the last window that was closed. An order is late if and only if its window ends at or before e.

Since lateness depends on e alone, a record below p belongs into an open window if and only if its window ends after e:
no window that ends later was closed yet, and all that end earlier were. So the committed offset is that of the first
record in the oldest open window, and what is read from there fills all open windows again, to the order.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.events.volume import MINUTE_MS, VolumePartial, minute_of
from onceloop.records import CommitPoint, Partition

VERSION = 1


class Order(NamedTuple):
    """What an outcome event says that is counted: when the order was placed, and the units held for it."""

    placed_at_ms: int
    reserved: bool
    units: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long windows wait, in milliseconds."""

    lateness_ms: int
    """Behind their end."""
    idle_ms: int
    """How long a partition must have been quiet before the wall clock takes the place of the watermark."""


class Progress(NamedTuple):
    """What is committed beside the offset."""

    read_to: int
    watermark_ms: int = 0
    closed_to_ms: int = 0

    def to_metadata(self, topic_id: str = "") -> str:
        """Return the text to commit, with the id of the topic if known; some 100 bytes of the 4096 that fit."""
        fields = {"v": VERSION, "p": self.read_to, "w": self.watermark_ms, "e": self.closed_to_ms}
        return json.dumps(fields | ({"t": topic_id} if topic_id else {}), separators=(",", ":"))


def restored(point: CommitPoint) -> Progress:
    """Return what was committed; a partition of which nothing was counted yet has no text.

    Raises ValueError for a text that this version does not know.
    """
    if not point.metadata:
        return Progress(point.offset)
    metadata = json.loads(point.metadata)
    if not isinstance(metadata, dict) or metadata.get("v") != VERSION:
        raise ValueError(f"offset metadata of an unknown version: {point.metadata}")
    return Progress(int(metadata["p"]), int(metadata["w"]), int(metadata["e"]))


class Tally:
    """Orders counted so far, and the offset of the first."""

    __slots__ = ("failed", "first_offset", "reserved", "units")

    def __init__(self, first_offset: int) -> None:
        self.first_offset = first_offset
        self.reserved = self.failed = self.units = 0

    def add(self, order: Order) -> None:
        """Count one order; units are held for reserved ones alone."""
        if order.reserved:
            self.reserved += 1
            self.units += order.units
        else:
            self.failed += 1


class Windows:
    """The windows of one partition. `now_ms`: the wall clock, milliseconds since the epoch. `topic_id`: its topic's."""

    def __init__(
        self, partition: Partition, point: CommitPoint, patience: Patience, now_ms: int, topic_id: str = ""
    ) -> None:
        self._partition = partition
        self._topic_id = topic_id
        self._patience = patience
        self._committed = point
        progress = restored(point)
        self._position = point.offset
        self._read_to = max(progress.read_to, point.offset)
        self._watermark_ms = progress.watermark_ms
        self._closed_to_ms = progress.closed_to_ms
        self._open: dict[int, Tally] = {}
        self._late: dict[int, Tally] = {}
        self._closed: list[VolumePartial] = []
        self._quiet_since_ms = now_ms

    @property
    def refilling(self) -> bool:
        """Return True while records come again that were read before."""
        return self._position < self._read_to

    def count(self, offset: int, order: Order, now_ms: int) -> None:
        """Count the record at this offset. What it closes waits in `partials`."""
        self._position = offset + 1
        minute = minute_of(order.placed_at_ms)
        if minute + MINUTE_MS <= self._closed_to_ms:
            if offset >= self._read_to:
                _tally(self._late, minute, offset).add(order)
            return
        _tally(self._open, minute, offset).add(order)
        if offset >= self._read_to:
            self._quiet_since_ms = now_ms
            self._watermark_ms = max(self._watermark_ms, order.placed_at_ms)
            self._close(self._watermark_ms - self._patience.lateness_ms)

    def skip(self, offset: int) -> bool:
        """Pass a record that holds no order; return True if it is met for the first time."""
        self._position = offset + 1
        return offset >= self._read_to

    def wait(self, now_ms: int) -> None:
        """Take note that more records are waiting somewhere: a partition is not quiet because it is not read."""
        self._quiet_since_ms = now_ms

    def idle(self, now_ms: int) -> bool:
        """Return True if the wall clock may close a window now."""
        if self.refilling or not self._open:
            return False
        self._quiet_since_ms = min(self._quiet_since_ms, now_ms)  # a clock that was put back must not hold windows open
        quiet_ms = now_ms - self._quiet_since_ms
        return quiet_ms >= self._patience.idle_ms and min(self._open) + MINUTE_MS <= now_ms - self._patience.lateness_ms

    def close_idle(self, now_ms: int) -> None:
        """Close what the wall clock may close."""
        if self.idle(now_ms):
            self._close(now_ms - self._patience.lateness_ms)

    def partials(self) -> Sequence[VolumePartial]:
        """Return what is to be published together with `point`: windows that closed, then late orders by minute."""
        late = [self._partial(minute, tally, late=True) for minute, tally in sorted(self._late.items())]
        return [*self._closed, *late]

    def point(self) -> CommitPoint | None:
        """Return what is to be committed, or None if nothing changed, or if it may not fall back below what is read."""
        if self.refilling:
            return None
        first = min((tally.first_offset for tally in self._open.values()), default=self._position)
        progress = Progress(self._position, self._watermark_ms, self._closed_to_ms)
        point = CommitPoint(first, progress.to_metadata(self._topic_id))
        return None if point == self._committed else point

    def settled(self, point: CommitPoint) -> None:
        """Learn that this is committed, together with all `partials`."""
        self._committed = point
        self._late.clear()
        self._closed.clear()

    def _close(self, limit_ms: int) -> None:
        """Close all windows that end at or before the limit, in order."""
        for minute in sorted(minute for minute in self._open if minute + MINUTE_MS <= limit_ms):
            self._closed.append(self._partial(minute, self._open.pop(minute), late=False))
            self._closed_to_ms = minute + MINUTE_MS

    def _partial(self, minute: int, tally: Tally, *, late: bool) -> VolumePartial:
        return VolumePartial(
            topic=self._partition.topic,
            partition=self._partition.number,
            minute_ms=minute,
            reserved=tally.reserved,
            failed=tally.failed,
            units=tally.units,
            late=tally.reserved + tally.failed if late else 0,
            until=self._position,
        )


def _tally(tallies: dict[int, Tally], minute: int, offset: int) -> Tally:
    tally = tallies.get(minute)
    if tally is None:
        tally = tallies[minute] = Tally(offset)
    return tally
