"""Project orders, outcomes and notifications onto each order's status.

The handler of `consumer_loop` with the offsets beside the data: one batch is one database transaction. Order and
repetition of the records do not matter (`core/status.py`), and the stored offsets keep a sleeper from applying twice.
What does not decode is logged, counted and passed over: the services that act on these topics keep the dead letters.
So is what the database rejects, and what raises again and again; the record stays on its topic, and its status keeps
what is known from the others.
"""

from collections.abc import Iterable, Mapping, Sequence

from common import metrics
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.notifications import NotificationSent
from common.events.orders import OrderCreated
from common.log import get_logger
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION_SENT, ORDERS_CREATED, Topic
from onceloop.errors import Poison, Undecodable
from onceloop.records import CommitPoint, InputRecord, Partition, next_offsets
from order_service.core.status import OrderStatus, StatusEvent, fold, status_from
from order_service.io.status_store import StatusStore

_EVENTS: tuple[tuple[Topic, type[StatusEvent]], ...] = (
    (ORDERS_CREATED, OrderCreated),
    (INVENTORY_RESERVED, InventoryReserved),
    (INVENTORY_FAILED, InventoryFailed),
    (NOTIFICATION_SENT, NotificationSent),
)
TOPICS = tuple(topic for topic, _ in _EVENTS)

log = get_logger()


class Projection:
    """Handles batches, and says where reading continues. Raises Busy while the database is away."""

    def __init__(self, store: StatusStore, codec: Codec, *, namespace: str) -> None:
        self._store = store
        self._codec = codec
        self._event_of: Mapping[str, type[StatusEvent]] = {topic.within(namespace): event for topic, event in _EVENTS}
        self._left: dict[Partition, int] = {}  # where the stored positions stand, if no other process changed them

    def positions(self, partitions: frozenset[Partition]) -> Mapping[Partition, CommitPoint]:
        """Return the next offset to read per partition, marked with its topic; one never stored is left out."""
        stored = self._store.positions(partitions)
        self._left = {partition: point.offset for partition, point in stored.items()}
        return stored

    def handle(self, batch: Sequence[InputRecord]) -> None:
        """Store what the batch says and how far it goes, in one transaction."""
        self._apply(fold(self._statuses(batch)), batch)

    def reject(self, record: InputRecord, poison: Poison) -> None:
        """Store the position behind a record that cannot be worked on. Raises Busy."""
        _skip(record, Undecodable(poison.error_class, str(poison)))
        self._apply([], [record])

    def _apply(self, statuses: Sequence[OrderStatus], batch: Sequence[InputRecord]) -> None:
        following = {partition: point.offset for partition, point in next_offsets(batch).items()}
        self._store.apply(statuses, following, left=self._left)
        self._left.update(following)

    def _statuses(self, batch: Sequence[InputRecord]) -> Iterable[OrderStatus]:
        for record in batch:
            try:
                event = self._codec.decode(self._event_of[record.partition.topic], record.value)
            except Undecodable as cause:
                _skip(record, cause)
            else:
                yield status_from(event)


def _skip(record: InputRecord, cause: Undecodable) -> None:
    metrics.PROJECTION_SKIPPED.labels(cause.error_class).inc()
    log.warning(
        "record.skipped",
        topic=record.partition.topic,
        partition=record.partition.number,
        offset=record.offset,
        error_class=cause.error_class,
        reason=cause.reason,
    )
