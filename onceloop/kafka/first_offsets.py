"""Give a group its first offset on partitions that were added to a topic while it is read.

Provisioning writes the first offsets of new topics, when a group has no members yet. The broker takes none from outside
for a group with live members; so a member commits them itself, at the partition's beginning, and only if all of this
says that the partition is new, and not one whose offset a broker has forgotten or does not know yet:

- the group has an offset on the topic's first partition, so it is not the group that was forgotten;
- the partition holds its very first record, or none;
- for some seconds the broker says that the group has no offset there;
- the service's own store knows of nothing that was done there.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

from confluent_kafka import KafkaException, TopicPartition

from onceloop.errors import Busy, FatalError
from onceloop.records import CommitPoint, Partition

LOADED_SECONDS = 5.0
"""So long a broker that loads its groups may know none of their offsets, and say so without an error."""
REQUEST_SECONDS = 2.0

Untouched = Callable[[frozenset[Partition]], frozenset[Partition]]
"""Partitions -> those of which the service has done nothing yet, as far as its own store knows. Raises Busy."""


def store_knows_nothing(partitions: frozenset[Partition]) -> frozenset[Partition]:
    """Return all of them: for services whose work may be repeated from a partition's beginning."""
    return partitions


class FirstOffsets:
    """Judges partitions without a committed offset, for one member of a group."""

    def __init__(self, consumer: Any, untouched: Untouched) -> None:
        self._consumer = consumer
        self._untouched = untouched
        self._missing_since: dict[Partition, float] = {}

    def of(self, missing: Collection[Partition]) -> dict[Partition, CommitPoint]:
        """Return the offsets with which the group begins there.

        Raises Busy while that is not sure yet, FatalError if one of them is not new: then a person decides.
        """
        now = time.monotonic()
        self._missing_since = {partition: self._missing_since.get(partition, now) for partition in missing}
        lost = self._forgotten(missing) or self._cut_off(missing) or self._worked_on(missing)
        if now - max(self._missing_since.values()) < LOADED_SECONDS:
            raise Busy(f"no committed offset yet: {_names(missing)}")
        if lost:
            raise lost
        return {partition: CommitPoint(0) for partition in missing}

    def _forgotten(self, missing: Collection[Partition]) -> FatalError | None:
        firsts = [TopicPartition(topic, 0) for topic in sorted({partition.topic for partition in missing})]
        try:
            found = self._consumer.committed(firsts, timeout=REQUEST_SECONDS)
        except KafkaException as error:
            raise Busy(f"committed offsets: {error.args[0].str()}") from error
        known = {each.topic for each in found if each.error is None and each.offset >= 0}
        if forgotten := [partition for partition in missing if partition.topic not in known]:
            return FatalError(
                f"{_names(forgotten)}: no committed offset in this group",
                cure="a new group gets its first ones from `pipeline provision`, which refuses where work was done:"
                " see docs/runbook.md, the committed offset is gone",
            )
        return None

    def _cut_off(self, missing: Collection[Partition]) -> FatalError | None:
        begun = {partition: self._low(partition) for partition in missing}
        if cut := {partition: low for partition, low in begun.items() if low}:
            words = ", ".join(f"{low} records of {_names([partition])}" for partition, low in cut.items())
            return FatalError(
                f"retention deleted {words} before this group had an offset there",
                cure="see docs/runbook.md, the committed offset is gone",
            )
        return None

    def _low(self, partition: Partition) -> int:
        try:
            low, _ = self._consumer.get_watermark_offsets(
                TopicPartition(*partition), timeout=REQUEST_SECONDS, cached=False
            )
        except KafkaException as error:
            raise Busy(f"beginning of {_names([partition])}: {error.args[0].str()}") from error
        return int(low)

    def _worked_on(self, missing: Collection[Partition]) -> FatalError | None:
        if worked_on := frozenset(missing) - self._untouched(frozenset(missing)):
            return FatalError(
                f"{_names(worked_on)}: no committed offset in this group, but work was done there",
                cure="see docs/runbook.md, the committed offset is gone",
            )
        return None


def _names(partitions: Collection[Partition]) -> str:
    return ", ".join(f"{partition.topic}[{partition.number}]" for partition in sorted(partitions))
