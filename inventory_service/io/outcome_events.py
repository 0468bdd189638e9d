"""Decisions as events: bytes that are stored with the decision, and the record that carries them."""

from collections.abc import Callable, Iterable, Sequence

from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from inventory_service.core.replay import Arrival, Decision
from inventory_service.core.rule import Outcome, Reserved
from inventory_service.core.turns import Turn
from inventory_service.io.decision_store import NewDecision
from onceloop.records import OutputRecord


class OutcomeEvents:
    """Of one namespace. `new_id` returns the id of an event."""

    def __init__(self, codec: Codec, *, namespace: str, new_id: Callable[[], str]) -> None:
        self._codec = codec
        self._new_id = new_id
        self._reserved_topic = INVENTORY_RESERVED.within(namespace)
        self._failed_topic = INVENTORY_FAILED.within(namespace)

    def new(
        self, arrivals: Sequence[Arrival], outcomes: Sequence[Outcome], now_ms: int, turns: Iterable[Turn | None]
    ) -> list[NewDecision]:
        """Return the decision of each order, with its event as it will be repeated by every replay."""
        rows = []
        for arrival, outcome, turn in zip(arrivals, outcomes, turns, strict=False):  # without turns: None for ever
            coordinate, order = arrival.coordinate, arrival.order
            event_id = self._new_id()
            event = self.encode(arrival, outcome, event_id, now_ms)
            reason, lines = (None, outcome.lines) if isinstance(outcome, Reserved) else (outcome.reason, order.lines)
            decision = Decision(order.order_id, reason, event_id, event, coordinate, now_ms)
            rows.append(NewDecision(decision, lines, turn))
        return rows

    def encode(self, arrival: Arrival, outcome: Outcome, event_id: str, now_ms: int) -> bytes:
        """Return the event's bytes."""
        order = arrival.order
        if isinstance(outcome, Reserved):
            if outcome.lines == order.lines:
                return self._codec.encode_reserved(arrival.value, event_id=event_id, decided_at_ms=now_ms)
            return self._codec.encode(
                InventoryReserved(event_id, order.order_id, order.user_id, outcome.lines, order.placed_at_ms, now_ms)
            )
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
        topic, event_type = self._failed_topic, "inventory.failed"
        if decision.reserved:
            topic, event_type = self._reserved_topic, "inventory.reserved"
        partition, offset = decision.owner
        headers = envelope.answer_headers(
            decision.event_id, event_type, "/inventory", decision.decided_at_ms, *partition, offset
        )
        return OutputRecord(topic, arrival.key, decision.event, headers)
