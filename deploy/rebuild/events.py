"""The rows that follow from the topics: a decision from its event, a ledger row from its notification. Pure.

An event was encoded from the decision that it reports, and is stored in its row: all of the row follows from it, but
how often it was replayed.
"""

from typing import NamedTuple
from uuid import UUID

from common.events import orders
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.notifications import NotificationSent
from common.events.orders import OrderCreated, OrderLine
from onceloop.errors import Undecodable
from onceloop.records import InputRecord, Partition


class DecisionRow(NamedTuple):
    """A row of `inventory.decision`. `reason` is None for a reservation; `owner`: the record that it answers."""

    order_id: str
    reason: str | None
    event_id: str
    event: bytes
    owner: Partition
    offset: int
    lines: tuple[OrderLine, ...]
    decided_at_ms: int

    @property
    def reserved(self) -> bool:
        """Return True if the order holds stock."""
        return self.reason is None


class SentRow(NamedTuple):
    """A row of `notification.ledger` that is sent; the id of the event that it reports is its decision's."""

    order_id: str
    kind: str
    channel: str
    user_id: str
    sent_at_ms: int


def decision_row(codec: Codec, expected: type[InventoryReserved | InventoryFailed], record: InputRecord) -> DecisionRow:
    """Return the decision that a record reports. Raises Undecodable if it reports none that the table could hold."""
    event = codec.decode(expected, record.value)
    _refuse(orders.complaint(OrderCreated(event.order_id, event.user_id, event.lines, event.placed_at_ms)))
    _refuse(orders.complaint(OrderCreated(event.order_id, event.user_id, event.lines, event.decided_at_ms)))
    try:
        event_id = str(UUID(event.event_id))
    except ValueError as error:
        raise Undecodable("content", "event_id is not a UUID") from error
    headers = dict(record.headers())
    topic, number, offset = (headers.get(f"origin_{name}") or b"" for name in ("topic", "partition", "offset"))
    if not (topic and number.isdigit() and offset.isdigit()):
        raise Undecodable("headers", "name no record that this event answers")
    return DecisionRow(
        order_id=event.order_id,
        reason=event.reason.value if isinstance(event, InventoryFailed) else None,
        event_id=event_id,
        event=record.value or b"",
        owner=Partition(topic.decode(), int(number)),
        offset=int(offset),
        lines=event.lines,
        decided_at_ms=event.decided_at_ms,
    )


def sent_row(codec: Codec, record: InputRecord) -> SentRow:
    """Return the ledger's row of a record. Raises Undecodable if it reports none that the table could hold."""
    event = codec.decode(NotificationSent, record.value)
    stand_in = (OrderLine("none", 1),)
    _refuse(orders.complaint(OrderCreated(event.order_id, event.user_id, stand_in, event.sent_at_ms)))
    return SentRow(event.order_id, event.kind.value, event.channel, event.user_id, event.sent_at_ms)


def _refuse(complaint: str) -> None:
    if complaint:
        raise Undecodable("content", complaint)
