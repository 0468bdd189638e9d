"""What retention may have taken, distinguished from what was never written. Pure.

An order is then judged by what is left of it. Trimmed heads are lawful. A record that is missing is excused only if
it may have stood there: an order if its decision names a coordinate below the head; an event if on some partition no
earlier answer to the same partition is left.
"""

import sys
from collections.abc import Iterator

from audit.books import Books, Decision, Verdict
from audit.terms import Offsets, Spot, below
from common.topics import NOTIFICATION_SENT

OUTCOMES = {verdict.value for verdict in Verdict}


def order_is_trimmed(order_id: str, books: Books) -> bool:
    """Return True if the order's record stood below a head, as its decision says."""
    decision = books.decisions.get(order_id)
    return decision is not None and decision.owner.offset < books.head(decision.owner.spot)


def hidden(books: Books) -> Iterator[tuple[str, Decision]]:
    """Yield the decisions of records that were left behind whose event retention may have taken."""
    heads = _heads(books)
    if not heads:
        return
    dead = {letter.source for letter in books.dead_letters}
    for order_id, decision in books.decisions.items():
        if order_id in books.outcomes or decision.owner in dead:
            continue
        if below(decision.owner, books.progress.inventory_before) and _event_is_trimmed(decision, heads, books):
            yield order_id, decision


def is_past_heads(decision: Decision, offsets: Offsets, books: Books) -> bool:
    """Return True if a reader that stands there has read whatever retention took of events like this decision's."""
    return all(
        offsets.get(spot, 0) >= begin for spot, begin in _heads(books).items() if spot.topic == decision.verdict.value
    )


def notification_is_trimmed(order_id: str, books: Books) -> bool:
    """Return True if the record of an order's notification may be gone; the status must know of it then."""
    status = books.statuses.get(order_id)
    return books.trimmed(NOTIFICATION_SENT.name) and (status is None or status.notified_at is not None)


def _heads(books: Books) -> dict[Spot, int]:
    return {spot: books.head(spot) for spot in books.begins if spot.topic in OUTCOMES and books.head(spot)}


def _event_is_trimmed(decision: Decision, heads: Offsets, books: Books) -> bool:
    """Events that answer one partition stand in its order, so the first that is left bounds what may be gone."""
    return any(
        books.first_answers.get((spot, decision.owner.spot), sys.maxsize) > decision.owner.offset
        for spot in heads
        if spot.topic == decision.verdict.value
    )
