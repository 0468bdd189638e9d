"""Decisions as events: bytes that are stored with the decision, and the record that carries them."""

import uuid_utils

from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from inventory_service.core.allocation import Outcome, Reserved
from inventory_service.core.replay import Arrival, Decision
from inventory_service.io.decision_store import NewDecision
from onceloop.records import OutputRecord


class OutcomeEvents:
    """Of one namespace."""

    def __init__(self, codec: Codec, *, namespace: str) -> None:
        self._codec = codec
        self._reserved_topic = INVENTORY_RESERVED.within(namespace)
        self._failed_topic = INVENTORY_FAILED.within(namespace)

    def new(self, arrival: Arrival, outcome: Outcome, now_ms: int) -> NewDecision:
        """Return the decision of an order, with its event as it will be repeated by every replay."""
        event_id = str(uuid_utils.uuid7())
        return NewDecision(
            decision=Decision(
                order_id=arrival.order.order_id,
                reason=None if isinstance(outcome, Reserved) else outcome.reason,
                event_id=event_id,
                event=self.encode(arrival, outcome, event_id, now_ms),
                owner=arrival.coordinate,
                decided_at_ms=now_ms,
            ),
            lines=arrival.order.lines,
        )

    def encode(self, arrival: Arrival, outcome: Outcome, event_id: str, now_ms: int) -> bytes:
        """Return the event's bytes."""
        if isinstance(outcome, Reserved):
            return self._codec.encode_reserved(arrival.value, event_id=event_id, decided_at_ms=now_ms)
        order = arrival.order
        return self._codec.encode(
            InventoryFailed(
                event_id=event_id,
                order_id=order.order_id,
                user_id=order.user_id,
                lines=order.lines,
                reason=outcome.reason,
                sku=outcome.sku,
                requested=outcome.requested,
                available=outcome.available,
                placed_at_ms=order.placed_at_ms,
                decided_at_ms=now_ms,
            )
        )

    def record(self, arrival: Arrival, decision: Decision) -> OutputRecord:
        """Return the record that carries a decision; all of it follows from the row, so every replay is equal."""
        owner = decision.owner
        return OutputRecord(
            topic=self._reserved_topic if decision.reserved else self._failed_topic,
            key=arrival.key,
            value=decision.event,
            headers=(
                *envelope.headers(
                    event_id=decision.event_id,
                    event_type="inventory.reserved" if decision.reserved else "inventory.failed",
                    source="/inventory",
                    time_ms=decision.decided_at_ms,
                ),
                *envelope.origin_headers(
                    topic=owner.partition.topic, partition=owner.partition.number, offset=owner.offset
                ),
            ),
        )
