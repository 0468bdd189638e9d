"""The input topic and its group as `InputLog` sees them from outside."""

from collections.abc import Mapping

from chaos.model.cluster import Cluster
from onceloop.dead_letter import source_of
from onceloop.kafka.input_log import Reading
from onceloop.records import InputRecord, Partition


class ModelLog:
    """Stands for `InputLog`."""

    def __init__(self, cluster: Cluster, dead_letter_topic: str) -> None:
        self._cluster = cluster
        self._dead_letter_topic = dead_letter_topic

    def committed(self) -> dict[Partition, int]:
        """Return the group's offsets, pending ones aside."""
        self._cluster.scheduler.step("group looked at")
        return dict(self._cluster.group.committed)

    def read(self, wanted: Mapping[Partition, tuple[int, int]]) -> Reading:
        """Return all records of these stretches."""
        self._cluster.scheduler.step("input read again")
        records = [
            InputRecord(at, offset, entry.key, entry.value)
            for at, (start, end) in wanted.items()
            for offset, entry in enumerate(self._cluster.entries(at)[:end])
            if offset >= start and entry is not None
        ]
        return Reading(records, dict.fromkeys(wanted, 0), {at: end for at, (_, end) in wanted.items()})

    def dead_letters(self) -> set[tuple[Partition, int]]:
        """Return what visible dead letters are copies of."""
        self._cluster.scheduler.step("dead letters read")
        found = {source_of(entry.headers) for _, entry in self._cluster.visible(self._dead_letter_topic)}
        return {source for source in found if source is not None}
