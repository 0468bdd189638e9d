"""Records as orders, and dead letters of those that are none, or that the database rejects."""

from collections.abc import Sequence

from common.events.codec import Codec
from common.events.orders import OrderCreated
from common.topics import INVENTORY, ORDERS_CREATED, dead_letter_topic
from inventory_service.core.replay import Arrival, Coordinate
from onceloop import failpoints
from onceloop.dead_letter import dead_letter
from onceloop.errors import Poison, Undecodable
from onceloop.records import InputRecord, OutputRecord
from onceloop.telemetry import Observer


class Decoding:
    """Of one namespace."""

    def __init__(self, codec: Codec, *, namespace: str, observer: Observer) -> None:
        self._codec = codec
        self._observer = observer
        self._dead_letter_topic = dead_letter_topic(ORDERS_CREATED, INVENTORY).within(namespace)

    def of(self, batch: Sequence[InputRecord]) -> tuple[list[Arrival], list[OutputRecord]]:
        """Return the orders of a batch, and the dead letters of what is none."""
        arrivals, letters = [], []
        scanned = self._codec.scan_orders([record.value for record in batch])
        for record, found in zip(batch, scanned, strict=True):
            partition, offset, key, value, _ = record
            try:
                order = found or self._codec.decode(OrderCreated, value)
            except Undecodable as cause:
                letters.append(self._letter(record, cause))
            else:
                arrivals.append(Arrival(Coordinate(partition, offset), key, value or b"", order))
        return arrivals, letters

    def letters_of(
        self, batch: Sequence[InputRecord], rejected: Sequence[tuple[Arrival, Poison]]
    ) -> list[OutputRecord]:
        """Return dead letters of what the database rejects; no decision stands for it, so it holds no stock."""
        if not rejected:
            return []
        records = {Coordinate(record.partition, record.offset): record for record in batch}
        return [self._letter(records[a.coordinate], Undecodable("database", str(poison))) for a, poison in rejected]

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
