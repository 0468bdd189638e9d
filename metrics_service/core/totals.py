"""Merge partials into one total per minute. Pure: time is an argument, never asked for.

A total is the sum of the partials of its minute, in the order of their topic, and its revision is how many they are:
the same partials make the same totals, whenever they are published. Committed are an offset and `{v, p, h, z}`:

- p, what was read to: partials below it are read again only to fill memory; all of them are published;
- h, the oldest minute that is kept. It lies a horizon before the newest minute and only rises;
- z, the minute before which every one without orders was published as zero.

The committed offset is that of the first partial of any minute kept. A partial of a minute before h is refused: its
total is no longer in memory, and half a total would replace a whole one.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial, minute_of
from onceloop.records import CommitPoint

VERSION = 1


class Progress(NamedTuple):
    """What is committed beside the offset."""

    read_to: int
    kept_from_ms: int = 0
    empty_to_ms: int = 0

    def to_metadata(self, topic_id: str = "") -> str:
        """Return the text to commit, with the id of the topic if known."""
        fields = {"v": VERSION, "p": self.read_to, "h": self.kept_from_ms, "z": self.empty_to_ms}
        return json.dumps(fields | ({"t": topic_id} if topic_id else {}), separators=(",", ":"))


def restored(point: CommitPoint) -> Progress:
    """Return what was committed, or the beginning of everything.

    Raises ValueError for a text that this version does not know.
    """
    if not point.metadata:
        return Progress(point.offset)
    metadata = json.loads(point.metadata)
    if not isinstance(metadata, dict) or metadata.get("v") != VERSION:
        raise ValueError(f"offset metadata of an unknown version: {point.metadata}")
    return Progress(int(metadata["p"]), int(metadata["h"]), int(metadata["z"]))


class Minute:
    """The partials of one minute, summed up."""

    __slots__ = ("failed", "first_offset", "late", "partials", "reserved", "units")

    def __init__(self, first_offset: int) -> None:
        self.first_offset = first_offset
        self.reserved = self.failed = self.units = self.late = self.partials = 0

    def add(self, partial: VolumePartial) -> None:
        """Count the orders of one partial."""
        self.reserved += partial.reserved
        self.failed += partial.failed
        self.units += partial.units
        self.late += partial.late
        self.partials += 1

    def total(self, minute_ms: int) -> MinuteVolume:
        """Return what is known of the minute now."""
        return MinuteVolume(
            minute_ms=minute_ms,
            orders=self.reserved + self.failed,
            reserved=self.reserved,
            failed=self.failed,
            units=self.units,
            late=self.late,
            revision=self.partials,
        )


class Totals:
    """The totals of the minutes within the horizon. `topic_id`: of the partials."""

    def __init__(self, point: CommitPoint, *, horizon_ms: int, topic_id: str = "") -> None:
        self._topic_id = topic_id
        progress = restored(point)
        self._committed = point
        self._horizon_ms = horizon_ms
        self._position = point.offset
        self._read_to = max(progress.read_to, point.offset)
        self._kept_from_ms = progress.kept_from_ms
        self._empty_to_ms = progress.empty_to_ms
        self._minutes: dict[int, Minute] = {}
        self._changed: set[int] = set()
        self._empty: list[int] = []
        self._began = False

    @property
    def refilling(self) -> bool:
        """Return True while partials come again that were read before."""
        return self._position < self._read_to

    @property
    def changed(self) -> bool:
        """Return True if something is to be published or committed."""
        return bool(self._changed or self._empty or self._began)

    def merge(self, offset: int, partial: VolumePartial) -> bool:
        """Add a partial to its minute; return False if it is refused, because it is met first and too late."""
        self._position = offset + 1
        fresh = offset >= self._read_to
        if partial.minute_ms < self._kept_from_ms:
            return not fresh
        minute = self._minutes.get(partial.minute_ms)
        if minute is None:
            minute = self._minutes[partial.minute_ms] = Minute(offset)
        minute.add(partial)
        if fresh:
            self._changed.add(partial.minute_ms)
        return True

    def skip(self, offset: int) -> bool:
        """Pass a record that holds no partial; return True if it is met for the first time."""
        self._position = offset + 1
        return offset >= self._read_to

    def empty_minutes_due(self, limit_ms: int) -> bool:
        """Return True if a minute that ended before the limit was neither counted nor published as zero."""
        return not self.refilling and self._empty_to_ms + MINUTE_MS <= minute_of(limit_ms)

    def add_empty(self, limit_ms: int) -> None:
        """Take up minutes without orders that ended before the limit; none the first time: no process ran before."""
        if not self.empty_minutes_due(limit_ms):
            return
        limit = minute_of(limit_ms)
        self._began = not self._empty_to_ms
        first = limit if self._began else max(self._empty_to_ms, limit - self._horizon_ms)
        self._empty += [minute for minute in range(first, limit, MINUTE_MS) if minute not in self._minutes]
        self._empty_to_ms = limit

    def totals(self) -> Sequence[MinuteVolume]:
        """Return what is to be published together with `point`, by minute."""
        empty = [MinuteVolume(minute, 0, 0, 0, 0, 0, 0) for minute in self._empty]
        changed = [self._minutes[minute].total(minute) for minute in self._changed]
        return sorted([*empty, *changed], key=lambda total: total.minute_ms)

    def forget(self, now_ms: int) -> None:
        """Forget minutes behind the horizon, which a minute in the future (a clock ran ahead) does not move.

        To be called when all changes are settled.
        """
        limit_ms = min(max(self._minutes, default=0), minute_of(now_ms)) - self._horizon_ms
        if limit_ms > self._kept_from_ms and not self.refilling:
            self._kept_from_ms = limit_ms
            for minute in [minute for minute in self._minutes if minute < limit_ms]:
                del self._minutes[minute]

    def point(self) -> CommitPoint | None:
        """Return what is to be committed, or None if nothing changed or memory is still being filled."""
        if self.refilling:
            return None
        first = min((minute.first_offset for minute in self._minutes.values()), default=self._position)
        progress = Progress(self._position, self._kept_from_ms, self._empty_to_ms)
        point = CommitPoint(first, progress.to_metadata(self._topic_id))
        return None if point == self._committed else point

    def settled(self, point: CommitPoint) -> None:
        """Learn that this is committed, together with all `totals`."""
        self._committed = point
        self._changed.clear()
        self._empty.clear()
        self._began = False
