"""Rules over the notification, which follows the events: S9, S13. Pure."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from uuid import UUID, uuid5

from audit.books import Books, LedgerRow, Sent, Verdict
from audit.rules.order_rules import dead_letters_by_source, misfits
from audit.rules.retention import hidden, is_past_heads, notification_is_trimmed
from audit.rules.rule import Harm, Violation
from audit.terms import Coordinate, below
from common.topics import NOTIFICATION_SENT

KIND_OF = {Verdict.RESERVED: "order_confirmed", Verdict.FAILED: "out_of_stock"}
STATUS_OF = {Verdict.RESERVED: "reserved", Verdict.FAILED: "failed"}


def nothing_from_nowhere(books: Books) -> Iterator[Violation]:
    """S9: what is derived names a visible event: no notification rests on a record that was never committed.

    Where the topics were read twice, both readings are one, and nothing at all names a record that only a reader of
    uncommitted ones sees.
    """
    for order_id, rows in books.ledger.items():
        decision = books.decisions.get(order_id)
        for row in rows:
            if decision is None or row.event_id != decision.event_id:
                yield Violation(f"notified ({row.kind}) of event {row.event_id}, which does not exist", order_id)
    for order_id, records in books.sent.items():
        visible = {event.at for event in books.outcomes.get(order_id, ())}
        for record in records:
            if record.source and record.source not in visible and not _out_of_sight(record.source, books):
                yield Violation(f"{record.at} is about {record.source}, which was never committed", order_id)
    yield from _names_uncommitted(books)


def _out_of_sight(at: Coordinate, books: Books) -> bool:
    """Return True if retention or an open transaction hides what stood there; nothing stands ahead of the ends."""
    behind = any(stall.at.spot == at.spot and at.offset >= stall.at.offset for stall in books.stalls)
    return behind or at.offset < books.begins.get(at.spot, 0)


def _names_uncommitted(books: Books) -> Iterator[Violation]:
    """Yield what differs between two readings, and what names a record of a transaction that was aborted."""
    rereading = books.testimony.rereading if books.testimony else None
    if rereading is None:
        return
    for at, what in rereading.differing:
        yield Violation(f"{at}: {what}")
    named = chain(
        ((event.at, event.source, event.order_id) for group in books.outcomes.values() for event in group),
        ((record.at, record.source, record.order_id) for group in books.sent.values() for record in group),
        ((letter.at, letter.source, "") for letter in books.dead_letters),
        (("the decision", decision.owner, order_id) for order_id, decision in books.decisions.items()),
    )
    for who, source, order_id in named:
        if source in rereading.uncommitted:
            yield Violation(f"{who} names {source}, which was never committed", order_id)


def notified_once(books: Books) -> Iterator[Violation]:
    """S13: an event that was processed has one notification, in the right words; its copies on the topic are one.

    What ledger and topic say of a notification is the same, and follows from the event.
    """
    for order_id, verdict in _worked_off(books):
        yield from _notification_faults(order_id, verdict, books)
    for order_id, rows in books.ledger.items():
        names = Counter((row.kind, row.channel) for row in rows)
        for (kind, channel), count in names.items():
            if count > 1:
                yield Violation(f"{count} ledger rows ({kind}, {channel})", order_id, Harm.DOUBLED)
        for row in rows:
            yield from _row_faults(order_id, row, books)
    for order_id, records in books.sent.items():
        if len({record.event_id for record in records}) > len({(r.kind, r.channel) for r in records}):
            yield Violation("copies of one notification carry different event ids", order_id, Harm.DOUBLED)
        for record in records:
            yield from _sent_otherwise(record, books)
    yield from misfits(books, NOTIFICATION_SENT.name)


def _worked_off(books: Books) -> Iterator[tuple[str, Verdict]]:
    """Yield the orders whose event the notification has left behind, those that retention took included."""
    passed = books.progress.notification
    dead = dead_letters_by_source(books)
    for order_id, events in books.outcomes.items():
        if any(below(event.at, passed) and event.at not in dead for event in events):
            yield order_id, events[0].verdict
    letters = {letter.value for letter in books.dead_letters}
    for order_id, decision in hidden(books):
        if is_past_heads(decision, passed, books) and decision.digest not in letters:
            yield order_id, decision.verdict


def _row_faults(order_id: str, row: LedgerRow, books: Books) -> Iterator[Violation]:
    """Yield what a ledger row derives otherwise than from its event."""
    if (user := _user_of(order_id, books)) is not None and row.user != user:
        yield Violation(f"the ledger notifies {row.user!r} of an order of {user!r}", order_id)
    if row.message_id and not row.message_id.startswith(f"<{row.event_id}.{row.channel}@"):
        yield Violation(f"Message-ID {row.message_id} is not that of event {row.event_id} by {row.channel}", order_id)


def _sent_otherwise(record: Sent, books: Books) -> Iterator[Violation]:
    """Yield where a record differs from the ledger's row of the same notification."""
    order_id = record.order_id
    rows = [row for row in books.ledger.get(order_id, ()) if (row.kind, row.channel) == (record.kind, record.channel)]
    if not rows:
        yield Violation(f"{record.at} says {record.kind} by {record.channel}; the ledger has no such row", order_id)
        return
    (row, *_) = rows
    if record.sent_at != (row.sent_at or 0):
        yield Violation(f"{record.at} was sent at {record.sent_at}, the ledger says {row.sent_at}", order_id)
    if record.user != row.user and record.user != _user_of(order_id, books):
        yield Violation(f"{record.at} notifies {record.user!r} of an order of {row.user!r}", order_id)
    if (wanted := _sent_event_id(row)) is not None and record.event_id != wanted:
        yield Violation(f"{record.at} has event id {record.event_id}, which does not follow from its event", order_id)


def _sent_event_id(row: LedgerRow) -> str | None:
    """Return the id that follows from event and channel; None where the event's is none, which S9 names."""
    try:
        return str(uuid5(UUID(row.event_id), row.channel))
    except ValueError:
        return None


def _user_of(order_id: str, books: Books) -> str | None:
    """Return whose order it is, as far as a topic shows."""
    for records in (books.created.get(order_id), books.outcomes.get(order_id)):
        if records:
            return records[0].user
    return None


def _notification_faults(order_id: str, verdict: Verdict, books: Books) -> Iterator[Violation]:
    kind = KIND_OF[verdict]
    rows = books.ledger.get(order_id, ())
    if not any(row.kind == kind and row.state == "sent" for row in rows):
        yield Violation(f"left behind by the notification, but the ledger has no {kind} that was sent", order_id)
    elif not any(record.kind == kind for record in books.sent.get(order_id, ())) and not (
        notification_is_trimmed(order_id, books) or books.unread(NOTIFICATION_SENT.name)
    ):
        yield Violation(f"notified ({kind}), but the topic does not say so", order_id)
    kinds = {row.kind for row in rows} | {record.kind for record in books.sent.get(order_id, ())}
    if wrong := sorted(kinds - {kind}):
        yield Violation(f"notified ({', '.join(wrong)}) of an order that is {STATUS_OF[verdict]}", order_id)
