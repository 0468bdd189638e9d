"""Records as orders, and dead letters of those that are none, or that the database rejects."""

from collections.abc import Sequence

from common.events.codec import Codec
from common.events.orders import OrderCreated
from common.topics import INVENTORY, ORDERS_CREATED, dead_letter_topic
from inventory_service.core.replay import Arrival, Coordinate
from onceloop import failpoints
from onceloop.dead_letter import dead_letter
from onceloop.errors import Poison, Undecodable
from onceloop.records import InputRecord, OutputRecord, rows
from onceloop.telemetry import Observer


class Decoding:
    """Of one namespace."""

    def __init__(self, codec: Codec, *, namespace: str, observer: Observer) -> None:
        self._codec = codec
        self._observer = observer
        self._dead_letter_topic = dead_letter_topic(ORDERS_CREATED, INVENTORY).within(namespace)

    def of(self, batch: Sequence[InputRecord]) -> tuple[list[Arrival], list[OutputRecord]]:
        """Return the orders of a batch, and the dead letters of what is none."""
        partitions, offsets, keys, values, _ = zip(*batch, strict=True)
        letters: list[OutputRecord] = []
        orders = self._codec.scan_orders(list(values))
        for index in [index for index, order in enumerate(orders) if order is None]:
            orders[index] = self._decoded(batch[index], letters)
        arrivals = rows(Arrival, rows(Coordinate, partitions, offsets), keys, values, orders)
        return [arrival for arrival in arrivals if arrival.order] if letters else arrivals, letters

    def letters_of(
        self, batch: Sequence[InputRecord], rejected: Sequence[tuple[Arrival, Poison]]
    ) -> list[OutputRecord]:
        """Return dead letters of what the database rejects; no decision stands for it, so it holds no stock."""
        if not rejected:
            return []
        records = {Coordinate(record.partition, record.offset): record for record in batch}
        return [self._letter(records[a.coordinate], Undecodable("database", str(poison))) for a, poison in rejected]

    def _decoded(self, record: InputRecord, letters: list[OutputRecord]) -> OrderCreated | None:
        """Return the order of one record; of one that is none, add its dead letter to the others."""
        try:
            return self._codec.decode(OrderCreated, record.value)
        except Undecodable as cause:
            letters.append(self._letter(record, cause))
            return None

    def _letter(self, record: InputRecord, cause: Undecodable) -> OutputRecord:
        self._observer.log(
            "warning",
            "record.dead_lettered",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            error_class=cause.error_class,
            reason=cause.reason,
        )
        failpoints.point("inventory:dlq.isolated")
        return dead_letter(record, cause, topic=self._dead_letter_topic)
