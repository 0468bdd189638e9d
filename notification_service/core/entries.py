"""What the ledger holds of one notification, and what remains to be done for it. Pure."""

from dataclasses import dataclass
from typing import NamedTuple, Self

from common.events.notifications import Kind, NotificationSent, message_id, sent_event_id
from notification_service.core.messages import kind
from notification_service.core.outcomes import Outcome


class Key(NamedTuple):
    """What one notification is identified by, within a channel."""

    order_id: str
    kind: Kind

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Return the key of the notification that reports this outcome."""
        return cls(outcome.order_id, kind(outcome))


@dataclass(frozen=True, slots=True)
class Claim:
    """The wish to report one outcome: a ledger row to be written unless there is one."""

    key: Key
    event_id: str
    user_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A ledger row. `sent_at_ms` is None while it is claimed; `attempts` counts the claims until it was sent."""

    key: Key
    event_id: str
    user_id: str
    message_id: str
    sent_at_ms: int | None
    attempts: int


def claim(outcome: Outcome, *, channel: str, domain: str) -> Claim:
    """Return the claim of an outcome; the same one on every attempt."""
    return Claim(
        key=Key.of(outcome),
        event_id=outcome.event_id,
        user_id=outcome.user_id,
        message_id=message_id(outcome.event_id, channel=channel, domain=domain),
    )


def notification_sent(entry: Entry, sent_at_ms: int, *, channel: str) -> NotificationSent:
    """Return the event that reports a sent notification; the same bytes on every repetition."""
    return NotificationSent(
        event_id=sent_event_id(entry.event_id, channel=channel),
        order_id=entry.key.order_id,
        user_id=entry.user_id,
        kind=entry.key.kind,
        channel=channel,
        sent_at_ms=sent_at_ms,
    )
