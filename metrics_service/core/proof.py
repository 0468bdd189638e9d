"""Distinguish old committed offsets from true ones, by what is published. Pure.

Partials and the offsets that cover them are committed together. So where a partition's committed metadata knows less
than one of its partials says, a broker answered that is still loading its groups, or the group was set back.
A process that continued from there would publish those minutes again. A commit without partials of a partition may be
missing: nothing of it was published, and its records count the same once more.
"""

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from common.events.volume import MINUTE_MS, VolumePartial
from metrics_service.core.windows import restored
from onceloop.records import CommitPoint, Partition


class Published(NamedTuple):
    """What a partition must at least have been read to, and its minutes be closed to."""

    read_to: int = 0
    closed_to_ms: int = 0


def published(partials: Iterable[VolumePartial]) -> dict[Partition, Published]:
    """Return what these partials say of each partition that is among them."""
    found: dict[Partition, Published] = {}
    for partial in partials:
        at = Partition(partial.topic, partial.partition)
        before = found.get(at, Published())
        closed_to_ms = 0 if partial.late else partial.minute_ms + MINUTE_MS
        found[at] = Published(max(before.read_to, partial.until), max(before.closed_to_ms, closed_to_ms))
    return found


def behind(stable: Mapping[Partition, CommitPoint], found: Mapping[Partition, Published]) -> dict[Partition, str]:
    """Return the partitions that are committed behind what is published, each with both in words.

    Raises ValueError for offset metadata that this version does not know.
    """
    wrong: dict[Partition, str] = {}
    for partition, point in stable.items():
        progress, known = restored(point), found.get(partition, Published())
        if progress.read_to < known.read_to:
            wrong[partition] = f"read to {progress.read_to} of {known.read_to}"
        elif progress.closed_to_ms < known.closed_to_ms:
            wrong[partition] = f"closed to {progress.closed_to_ms} of {known.closed_to_ms}"
    return wrong


def ahead(stable: Mapping[Partition, CommitPoint], earliest: Mapping[Partition, int]) -> dict[Partition, str]:
    """Return the partitions whose offset no process of ours committed although it lies above the earliest record.

    A process that counts always commits metadata; provisioning writes none, and begins at the earliest.
    """
    return {
        partition: f"at {point.offset}, the earliest is {earliest[partition]}"
        for partition, point in stable.items()
        if not point.metadata and point.offset > earliest[partition]
    }


def topic_id(point: CommitPoint) -> str:
    """Return the id of the topic for which this was committed; empty if an older version committed it, or none did."""
    return str(json.loads(point.metadata).get("t", "")) if point.metadata else ""
