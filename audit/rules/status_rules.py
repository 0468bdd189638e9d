"""The rule over the status of orders and how far it was projected: S17. Pure."""

from collections.abc import Iterator

from audit.books import Books, Created, Lacking, Outcome, Status, Verdict
from audit.rules.retention import hidden, is_past_heads
from audit.rules.rule import Violation
from audit.terms import below

STATUS_OF = {Verdict.RESERVED: "reserved", Verdict.FAILED: "failed"}


def status_is_verdict(books: Books) -> Iterator[Violation]:
    """S17: an order's status is the verdict of its event; pending only before the event was read.

    All else in the row is what the records say that the projection has read.
    """
    position = books.progress.projection
    for order_id, copies in books.created.items():
        if order_id not in books.statuses and any(below(copy.at, position) for copy in copies):
            yield Violation("read by the projection, but it has no status", order_id)
    for order_id, events in books.outcomes.items():
        status = books.statuses.get(order_id)
        if below(events[0].at, position) and (status is None or status.status == "pending"):
            yield Violation(f"{events[0].at} was read by the projection, but the order is still pending", order_id)
    for order_id, decision in hidden(books):
        status = books.statuses.get(order_id)
        if is_past_heads(decision, position, books) and (status is None or status.status == "pending"):
            shown = "pending" if status else "none"
            yield Violation(f"status {shown}, but its event was read by the projection before retention", order_id)
    for order_id, status in books.statuses.items():
        decision_of = books.decisions.get(order_id)
        if status.status != "pending" and (decision_of is None or status.status != STATUS_OF[decision_of.verdict]):
            decided = STATUS_OF[decision_of.verdict] if decision_of else "undecided"
            yield Violation(f"status {status.status}, but the order is {decided}", order_id)
        else:
            yield from _status_faults(order_id, status, books)
    yield from _projected_beyond(books)


def _status_faults(order_id: str, status: Status, books: Books) -> Iterator[Violation]:
    """Yield the fields of a status row that are not what its records, or what is left of them, say."""
    position = books.progress.projection
    copies, events = books.created.get(order_id, ()), books.outcomes.get(order_id, ())
    sources: tuple[tuple[Created | Outcome, ...], ...] = (copies, events)
    for source in (group[0] for group in sources if group and below(group[0].at, position)):
        due = (source.user, _lines_due(order_id, status, books) or source.lines, source.placed_at)
        for name, there, said in zip(("user", "lines", "placed_at"), _of_order(status), due, strict=True):
            if there != said:
                yield Violation(f"status: {name} is {there!r}, but {said!r} on {source.at}", order_id)
        if _of_order(status) != due:
            break  # the event repeats the order: one fault is reported once
    yield from _outcome_faults(order_id, status, books)
    yield from _notified_otherwise(order_id, status, books)


def _lines_due(order_id: str, status: Status, books: Books) -> int | None:
    """Return the lines of the event once the order is decided, None before: it may hold less than was asked for."""
    events, decision = books.outcomes.get(order_id), books.decisions.get(order_id)
    if status.status == "pending" or decision is None:
        return None
    return events[0].lines if events else decision.lines


def _of_order(status: Status) -> tuple[str, int | None, int | None]:
    return status.user, status.lines, status.placed_at


def _outcome_faults(order_id: str, status: Status, books: Books) -> Iterator[Violation]:
    """Yield what a row says of the outcome otherwise than event and decision."""
    events, decision = books.outcomes.get(order_id, ()), books.decisions.get(order_id)
    if status.status == "pending":
        if status.lacking is not None:
            yield Violation("status: pending, but it says what was lacking", order_id)
    elif decision is not None:
        if status.decided_at != decision.decided_at:
            what = f"status: decided at {status.decided_at}, but the decision says {decision.decided_at}"
            yield Violation(what, order_id)
        if events and status.lacking != events[0].lacking:
            yield Violation(f"status: {_said(status.lacking)}, but the event says {_said(events[0].lacking)}", order_id)
        elif not events and (status.lacking and status.lacking.reason) != decision.reason:
            yield Violation(f"status: {_said(status.lacking)}, but decided for {decision.reason}", order_id)


def _notified_otherwise(order_id: str, status: Status, books: Books) -> Iterator[Violation]:
    """Yield if the time of notification is not that of the earliest record that was read, or of the ledger."""
    sent_at = [record.sent_at for record in books.sent.get(order_id, ()) if below(record.at, books.progress.projection)]
    if sent_at:
        if status.notified_at is None or status.notified_at > min(sent_at):
            yield Violation(f"status: notified at {status.notified_at}, but the record says {min(sent_at)}", order_id)
            return
    elif status.notified_at is None:
        return
    known = {row.sent_at for row in books.ledger.get(order_id, ())} | set(sent_at)
    if status.notified_at not in known:
        yield Violation(f"status: notified at {status.notified_at}, when no notification was sent", order_id)


def _projected_beyond(books: Books) -> Iterator[Violation]:
    for spot, offset in books.progress.projection.items():
        if books.notes is not None and offset > books.notes.ends.get(spot, -1):
            ends = books.notes.ends.get(spot, "no offset")
            noted = f"orders.projection_offset has {spot.topic} {spot.partition} read to {offset}"
            yield Violation(f"{noted}, it ends at {ends}")


def _said(lacking: Lacking | None) -> str:
    if lacking is None:
        return "nothing lacked"
    return f"{lacking.reason}, {lacking.requested} of {lacking.sku} wanted, {lacking.available} left"
