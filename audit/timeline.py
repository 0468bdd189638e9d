"""A story in order of time. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from audit.readers.tables import DecisionRow, KeyRow, NotificationRow
from audit.story import Sighting, Story


class Moment(NamedTuple):
    """Something that happened. `time_ms`: milliseconds since the epoch, by the clock of its recorder."""

    time_ms: int
    what: str
    detail: str


def timeline(story: Story) -> tuple[Moment, ...]:
    """Return all moments; where clocks say the same, in the order in which things must have happened."""
    return tuple(sorted(_moments(story), key=lambda moment: moment.time_ms))


def lines_of(fields: dict[str, Any]) -> str:
    """Return an order's lines in words."""
    return ", ".join(f"{line['quantity']} x {line['sku']}" for line in fields.get("lines", ()))


def _moments(story: Story) -> Iterator[Moment]:
    for copy in story.created[:1]:
        if "placed_at" in copy.fields:
            placed = f"{lines_of(copy.fields)} for {copy.fields['user_id']}"
            yield Moment(copy.fields["placed_at"], "placed", placed)
    for key in story.rows.keys:
        yield from _key_moments(key)
    for copy in story.created:
        yield Moment(copy.time_ms, "record", f"{copy.at}{_unreadable(copy)}")
    if story.rows.decision:
        yield _decided(story.rows.decision, story.created)
    for event in story.events:
        yield Moment(event.time_ms, "event", f"{event.at}, answers {event.origin}{_unreadable(event)}")
    for row in story.rows.ledger:
        yield from _notification_moments(row)
    for sent in story.sent:
        yield Moment(sent.time_ms, "notified", f"{sent.at}{_unreadable(sent)}")


def _key_moments(key: KeyRow) -> Iterator[Moment]:
    yield Moment(_ms(key.created_at), "key", f"{key.key!r} stored with the event")
    if key.acknowledged_at:
        yield Moment(_ms(key.acknowledged_at), "confirmed", "by the broker; the client may be answered 202")


def _decided(decision: DecisionRow, created: Sequence[Sighting]) -> Moment:
    why = f" ({decision.reason})" if decision.reason else ""
    held = ", ".join(f"{quantity} x {sku}" for sku, quantity in decision.lines)
    if any("lines" in copy.fields and lines_of(copy.fields) != held for copy in created[:1]):
        why += f" ({held})"
    detail = f"{decision.verdict.name.lower()}{why}, owner {decision.owner}, event {decision.event_id}"
    return Moment(_ms(decision.decided_at), "decided", f"{detail}, replays {decision.replays}")


def _notification_moments(row: NotificationRow) -> Iterator[Moment]:
    yield Moment(_ms(row.claimed_at), "claimed", f"{row.kind} by {row.channel}, attempts {row.attempts}")
    if row.sent_at:
        yield Moment(_ms(row.sent_at), "sent", f"{row.kind} by {row.channel}")


def _unreadable(seen: Sighting) -> str:
    return f" (unreadable: {seen.fields['unreadable']})" if "unreadable" in seen.fields else ""


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
