"""Notification events: the customer was notified."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from common.events.orders import id_violation, time_violation, user_violation


class Kind(StrEnum):
    """What the customer was notified of. Values are the symbols of the Avro enum."""

    ORDER_CONFIRMED = "order_confirmed"
    OUT_OF_STOCK = "out_of_stock"
    OTHER = "other"
    """The enum's default: what a newer writer says and this reader does not know."""


@dataclass(frozen=True, slots=True)
class NotificationSent:
    """One message left through one channel. At least one record per notification; equal ones share `event_id`."""

    event_id: str
    order_id: str
    user_id: str
    kind: Kind
    channel: str
    sent_at_ms: int

    def violation(self) -> str:
        """Return what makes this event impossible, naming the field, or an empty text if it may be."""
        return (
            id_violation("order_id", self.order_id)
            or user_violation(self.user_id)
            or time_violation("sent_at", self.sent_at_ms)
        )


def message_id(event_id: str, *, channel: str, domain: str) -> str:
    """Return the RFC 5322 Message-ID of the message that reports this event through this channel."""
    return f"<{event_id}.{channel}@{domain}>"


def sent_event_id(event_id: str, *, channel: str) -> str:
    """Return the id of the `NotificationSent` for this event and channel: the same for each repetition."""
    return str(uuid5(UUID(event_id), channel))
