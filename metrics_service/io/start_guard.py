"""Refuse committed offsets that were set by hand, or that belong to a topic that was recreated (docs/adr/0041)."""

from collections.abc import Callable, Iterable, Mapping

from metrics_service.core.proof import ahead, topic_id
from onceloop.errors import FatalError
from onceloop.kafka.topic_watch import recreated
from onceloop.records import CommitPoint, Partition

Earliest = Callable[[Iterable[Partition]], Mapping[Partition, int]]


class StartGuard:
    """The offsets of a group that counts. `topic_ids`: topic name on the cluster -> id; `earliest` raises Busy."""

    def __init__(self, *, group: str, topic_ids: Mapping[str, str], earliest: Earliest) -> None:
        self._group = group
        self._topic_ids = topic_ids
        self._earliest = earliest
        self._bare: Mapping[Partition, CommitPoint] = {}

    def id_of(self, partition: Partition) -> str:
        """Return the id of the partition's topic, to be committed beside its offsets."""
        return self._topic_ids.get(partition.topic, "")

    def demand(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Have these looked at before the next record. Raises ReportedError for those of another topic."""
        for partition, point in stable.items():
            remembered, found = topic_id(point), self.id_of(partition)
            if remembered and remembered != found:
                raise recreated(partition.topic, remembered, found)
        self._bare = {partition: point for partition, point in stable.items() if not point.metadata and point.offset}

    def give(self) -> None:
        """Raise FatalError if one was set by hand, ahead of what is counted; Busy if that cannot be found out now."""
        if not self._bare:
            return
        if found := ahead(self._bare, self._earliest(self._bare)):
            named = ", ".join(f"{at.topic}[{at.number}] {found[at]}" for at in sorted(found))
            raise FatalError(
                f"offsets of group {self._group} were set by hand, ahead of what is counted: {named}",
                cure="stop the metrics, then: python -m metrics_service repair (docs/runbook.md)",
            )
        self._bare = {}
