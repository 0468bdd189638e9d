"""Say where counting goes on when a group's offsets were lost, or set by hand, from what is published alone. Pure.

Partials and offsets are committed together, so what was read to and closed stands in the partials as well as in the
metadata: nothing is published that lies above their `until`, and no window is closed but those of which there is one.
Offsets below what was read only fill memory again, so the earliest record is always a right place to begin.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial
from metrics_service.core import totals, windows
from metrics_service.core.proof import Published
from onceloop.records import CommitPoint

HORIZON_MS_MAX = 30 * 24 * 60 * MINUTE_MS
"""The longest horizon that can be set: no process keeps a minute that lies further behind the newest."""


class Resumed(NamedTuple):
    """Where a partition goes on, and how many offsets retention took that were never counted."""

    point: CommitPoint
    lost: int = 0


def windows_resumed(current: CommitPoint | None, known: Published, *, first: int, topic_id: str) -> Resumed:
    """Return where a partition of outcomes goes on; `first`: its earliest record, `known`: what its partials say."""
    stood = windows.restored(current) if current and current.metadata else windows.Progress(0)
    read_to, closed_to_ms = max(stood.read_to, known.read_to), max(stood.closed_to_ms, known.closed_to_ms)
    if (
        current
        and current.metadata
        and current.offset >= first
        and (stood.read_to, stood.closed_to_ms) == (read_to, closed_to_ms)
    ):
        return Resumed(current)
    if not read_to:  # nothing was ever counted here, so nothing can be counted twice
        read_to = min(current.offset, first) if current else first
    progress = windows.Progress(max(read_to, first), max(stood.watermark_ms, closed_to_ms), closed_to_ms)
    return Resumed(CommitPoint(first, progress.to_metadata(topic_id)), max(0, first - read_to))


def totals_resumed(
    current: CommitPoint | None,
    partials: Sequence[tuple[int, VolumePartial]],
    published: Iterable[MinuteVolume],
    *,
    refused: Collection[int],
    first: int,
    end: int,
    topic_id: str,
) -> Resumed:
    """Return where adding up goes on. `partials`: all that stand there, by offset; `refused`: dead letters' offsets."""
    stood = totals.restored(current) if current and current.metadata else totals.Progress(0)
    if current and current.metadata and current.offset >= first:
        return Resumed(current)
    revisions: dict[int, int] = {}
    for total in published:
        revisions[total.minute_ms] = max(total.revision, revisions.get(total.minute_ms, 0))
    kept_from = [partial.minute_ms + MINUTE_MS for offset, partial in partials if offset in refused]
    newest = max(revisions, default=0)
    progress = totals.Progress(
        _added_to(partials, revisions, refused, end),
        max([stood.kept_from_ms, newest - HORIZON_MS_MAX, 0, *kept_from]),
        max([stood.empty_to_ms, *(minute + MINUTE_MS for minute, revision in revisions.items() if not revision)]),
    )
    lost = max(0, first - stood.read_to) if stood.read_to else 0
    return Resumed(CommitPoint(first, progress.to_metadata(topic_id)), lost)


def _added_to(
    partials: Sequence[tuple[int, VolumePartial]], revisions: Mapping[int, int], refused: Collection[int], end: int
) -> int:
    """Return the offset of the first partial that no published total holds: a revision is how many it is the sum of."""
    seen = Counter[int]()
    for offset, partial in partials:
        if offset in refused:
            continue
        seen[partial.minute_ms] += 1
        if seen[partial.minute_ms] > revisions.get(partial.minute_ms, 0):
            return offset
    return end
