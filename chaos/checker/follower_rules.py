"""Rules over those who follow the events, notification and status: S9, S13, S17. Pure."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from chaos.checker.books import Books, Verdict
from chaos.checker.order_rules import dead_letters_by_source, judgeable
from chaos.checker.rule import Harm, Violation
from chaos.checker.terms import below

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
            if record.source and record.source not in visible and judgeable(record.source, books):
                yield Violation(f"{record.at} tells of {record.source}, which was never committed", order_id)
    yield from _names_uncommitted(books)


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
    """S13: an event that was worked off is told once, in the right words, and its copies on the topic are one."""
    passed = books.progress.notification
    dead = dead_letters_by_source(books)
    for order_id, events in books.outcomes.items():
        if any(below(event.at, passed) and event.at not in dead for event in events):
            yield from _notification_faults(order_id, events[0].verdict, books)
    for order_id, rows in books.ledger.items():
        names = Counter((row.kind, row.channel) for row in rows)
        for (kind, channel), count in names.items():
            if count > 1:
                yield Violation(f"{count} ledger rows ({kind}, {channel})", order_id, Harm.DOUBLED)
    for order_id, records in books.sent.items():
        if len({record.event_id for record in records}) > len({(r.kind, r.channel) for r in records}):
            yield Violation("copies of one notification carry different event ids", order_id, Harm.DOUBLED)


def status_is_verdict(books: Books) -> Iterator[Violation]:
    """S17: an order's status is the verdict of its event; pending only before the event was read."""
    position = books.progress.projection
    for order_id, copies in books.created.items():
        if order_id not in books.statuses and any(below(copy.at, position) for copy in copies):
            yield Violation("read by the projection, but it has no status", order_id)
    for order_id, events in books.outcomes.items():
        status = books.statuses.get(order_id)
        if below(events[0].at, position) and (status is None or status.status == "pending"):
            yield Violation(f"{events[0].at} was read by the projection, but the order is still pending", order_id)
    for order_id, status in books.statuses.items():
        decision = books.decisions.get(order_id)
        if status.status != "pending" and (decision is None or status.status != STATUS_OF[decision.verdict]):
            told = STATUS_OF[decision.verdict] if decision else "undecided"
            yield Violation(f"status {status.status}, but the order is {told}", order_id)


def _notification_faults(order_id: str, verdict: Verdict, books: Books) -> Iterator[Violation]:
    kind = KIND_OF[verdict]
    rows = books.ledger.get(order_id, ())
    if not any(row.kind == kind and row.state == "sent" for row in rows):
        yield Violation(f"left behind by the notification, but the ledger has no {kind} that was sent", order_id)
    elif not any(record.kind == kind for record in books.sent.get(order_id, ())):
        yield Violation(f"told ({kind}), but the topic does not say so", order_id)
    told = {row.kind for row in rows} | {record.kind for record in books.sent.get(order_id, ())}
    if wrong := sorted(told - {kind}):
        yield Violation(f"told {', '.join(wrong)} of an order that is {STATUS_OF[verdict]}", order_id)
