"""Decisions as events: bytes that are stored with the decision, and the record that carries them."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from inventory_service.core.replay import Arrival, Decision
from inventory_service.core.rule import Failed, Outcome, Reserved
from inventory_service.core.turns import Turn
from inventory_service.io.decision_store import NewDecision
from onceloop.records import Headers, OutputRecord, Partition, rows


class _Kind(NamedTuple):
    """Of events that differ in id and origin's offset alone: their topic, and what makes their headers."""

    topic: str
    headers: Callable[[str, int], Headers]


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
        event_ids = [self._new_id() for _ in arrivals]
        coordinates, _, values, orders = zip(*arrivals, strict=True)
        order_ids, asked = [order.order_id for order in orders], [order.lines for order in orders]
        # Most orders are held whole, at the cost of a batch; the others get a reason or lines of their own.
        events = self._codec.encode_all_reserved(values, event_ids, now_ms)
        reasons: list[Reason | None] = [None] * len(arrivals)
        lines = list(asked)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, Failed):
                reasons[index] = outcome.reason
            elif outcome.lines == asked[index]:
                continue
            else:
                lines[index] = outcome.lines
            events[index] = self.encode(arrivals[index], outcome, event_ids[index], now_ms)
        times = repeat(now_ms, len(arrivals))
        return rows(
            NewDecision, rows(Decision, order_ids, reasons, event_ids, events, coordinates, times), lines, turns
        )

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

    def records(self, answers: Iterable[tuple[Arrival, Decision]]) -> list[OutputRecord]:
        """Return the records that carry decisions; all of it follows from the rows, so every replay is equal."""
        kinds: dict[tuple[str, Partition, int], _Kind] = {}
        records = []
        for arrival, (_, reason, event_id, event, (partition, offset), decided_at_ms) in answers:
            described = self._reserved_topic if reason is None else self._failed_topic, partition, decided_at_ms
            kind = kinds.get(described) or kinds.setdefault(described, self._kind(*described))
            records.append(OutputRecord(kind.topic, arrival.key, event, kind.headers(event_id, offset)))
        return records

    def _kind(self, topic: str, partition: Partition, time_ms: int) -> _Kind:
        headers = envelope.answering(
            event_type="inventory.reserved" if topic == self._reserved_topic else "inventory.failed",
            source="/inventory",
            time_ms=time_ms,
            topic=partition.topic,
            partition=partition.number,
        )
        return _Kind(topic, headers)
