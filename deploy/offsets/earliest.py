"""Set a group whose work may be repeated to the earliest record, wherever its offset cannot be believed.

The ledger lets no customer be notified twice, and a status only ever gains: reading again costs time alone. Offsets
that can be believed stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from common.config import KafkaSettings
from common.kafka.admin import Admin
from common.topics import ALL_TOPICS, NOTIFICATION, ORDER_STATUS, Group
from deploy.offsets.cluster import Cluster
from onceloop.kafka.group_offsets import group_offsets, set_group_offsets
from onceloop.kafka.looking_back import looking
from onceloop.kafka.options import admin_options
from onceloop.kafka.topic_mark import mark, marked_id
from onceloop.records import CommitPoint, Partition

_POSITIONS = sa.text("SELECT topic, partition, next_offset, topic_id FROM orders.projection_offset")
_SET_POSITION = sa.text(
    "UPDATE orders.projection_offset SET next_offset = :offset, topic_id = :topic_id"
    " WHERE topic = :topic AND partition = :number"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands on one partition, `first` being the earliest record; `wrong`: why that is not believed."""

    at: Partition
    stood: int | None
    first: int
    wrong: str


def judged(point: CommitPoint | None, *, first: int, end: int, topic_id: str, unmarked_is_right: bool) -> str:
    """Return why this offset is not believed, or an empty text. Pure."""
    if point is None:
        return "none"
    marked = marked_id(point)
    if marked not in {None, topic_id}:
        return "of a topic that was recreated"
    if point.offset < first:
        return f"up to {first - point.offset} records are lost"
    if point.offset > end:
        return f"behind the end, {end}"
    return "" if marked or unmarked_is_right or point.offset == first else "set by hand, or by an older version"


class EarliestOffsets:
    """The offsets of `notification` or `order-status`. `connection`: of a role that may change the latter's."""

    def __init__(self, settings: KafkaSettings, group: Group) -> None:
        self.group_id = group.within(settings.namespace)
        self._group = group
        self._options = admin_options(settings.kafka)
        self._cluster = Cluster(settings)
        topics = [topic for topic in ALL_TOPICS if group in topic.readers]
        self._topic_ids = Admin(settings).topic_ids(topics)

    def look(self, connection: sa.Connection) -> Sequence[Standing]:
        """Return where it stands. Raises ReportedError if the group has members."""
        self._cluster.await_empty(self.group_id)
        partitions = self._cluster.partitions(self._topic_ids)
        points = self._points(connection, partitions)
        with looking(self._options) as looker:
            bounds = {at: looker.bounds(at) for at in partitions}
        kept_with_data = self._group == ORDER_STATUS
        found = []
        for at, (first, end) in bounds.items():
            point = points.get(at)
            if point is None and kept_with_data:  # the projection begins there at the earliest by itself
                continue
            wrong = judged(
                point, first=first, end=end, topic_id=self._topic_ids[at.topic], unmarked_is_right=kept_with_data
            )
            found.append(Standing(at, point.offset if point else None, first, wrong))
        return found

    def set(self, connection: sa.Connection, found: Sequence[Standing]) -> int:
        """Set what is not believed to the earliest record; return on how many partitions."""
        wrong = [each for each in found if each.wrong]
        if wrong and self._group == NOTIFICATION:
            points = {each.at: CommitPoint(each.first, mark(self._topic_ids[each.at.topic])) for each in wrong}
            set_group_offsets(self._options, group_id=self.group_id, points=points)
        elif wrong:
            rows = [
                {**each.at._asdict(), "offset": each.first, "topic_id": self._topic_ids[each.at.topic]}
                for each in wrong
            ]
            connection.execute(_SET_POSITION, rows)
            connection.commit()
        return len(wrong)

    def _points(self, connection: sa.Connection, partitions: Sequence[Partition]) -> Mapping[Partition, CommitPoint]:
        if self._group == NOTIFICATION:
            return group_offsets(
                self._options, group_id=self.group_id, partitions=partitions, stable=True, seconds=20.0
            )
        return {
            Partition(row.topic, row.partition): CommitPoint(
                row.next_offset, mark(row.topic_id) if row.topic_id else ""
            )
            for row in connection.execute(_POSITIONS)
        }
