"""Rules over what clients did and were answered, against what came of it: S1, S2, S3, S4, S10. Pure.

They judge what testimony there is. Whether an order has no client at all (S2), or one client too few (S3), can be
asked only where the testimony is complete.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from audit.books import Books, Created
from audit.readers.collector import fingerprint
from audit.rules.retention import order_is_trimmed
from audit.rules.rule import Harm, Violation
from audit.terms import KeyHolder
from audit.testimony import End, Kind, Request
from common.topics import ORDERS_CREATED

KEY_CONFLICT = 422

Wish = tuple[str, int]
"""Who wants what: a user, and the fingerprint of the lines."""


def confirmed_is_there(books: Books) -> Iterator[Violation]:
    """S1: an order confirmed to a client is on the topic, as it was ordered; what was acknowledged is where it was.

    An order that is missing is left to the rule over keys if its key says so too.
    """
    keyed = {key.order_id for key in books.keys}
    for request in _ended(books, End.OK):
        copies = books.created.get(request.order_id)
        if not copies:
            if request.order_id not in keyed and not order_is_trimmed(request.order_id, books):
                what = f"answered {request.status}, but not on {ORDERS_CREATED.name}"
                yield Violation(what, request.order_id, Harm.LOST)
        elif (copies[0].user, copies[0].lines) != (request.user, fingerprint(request.lines)):
            yield Violation("the record is not what the client ordered", request.order_id)
    for written in books.testimony.written if books.testimony else ():
        if (
            written.kind is Kind.POISON
            or written.at is None
            or written.at.offset < books.begins.get(written.at.spot, 0)
        ):
            continue
        if all(copy.at != written.at for copy in books.created.get(written.order_id, ())):
            yield Violation(f"acknowledged at {written.at}, but not there", written.order_id, Harm.LOST)


def every_order_has_a_client(books: Books) -> Iterator[Violation]:
    """S2: no order exists that no client caused, and what was refused for good left nothing."""
    unsure = _unsure(books)
    for wish, orphans in _orphans(books).items():
        if not unsure[wish]:
            for order_id in orphans:
                yield Violation("no client caused this order", order_id, Harm.DOUBLED)
    for holder, requests in keyed_requests(books).items():
        if holder in books.key_orders and all(request.end is End.FAIL for request in requests):
            yield Violation(f"refused for good, but its key {holder.key} has a row", books.key_orders[holder])


def unsure_is_one_at_most(books: Books) -> Iterator[Violation]:
    """S3: a request whose end is unknown caused no order, or one."""
    unsure = _unsure(books)
    for wish, orphans in _orphans(books).items():
        if unsure[wish] and len(orphans) > unsure[wish]:
            what = f"{len(orphans)} orders of {unsure[wish]} requests whose end is unknown"
            yield Violation(what, orphans[-1], Harm.DOUBLED)


def one_order_per_key(books: Books) -> Iterator[Violation]:
    """S4: one key of one user is one order and one answer; another body under it is refused, and no other is."""
    for holder, requests in keyed_requests(books).items():
        accepted = [request for request in requests if request.end is End.OK]
        if not accepted:
            continue
        first = accepted[0]
        for what, values in (
            ("order ids", {request.order_id for request in accepted}),
            ("answers", {request.reply for request in accepted}),
            ("bodies that were accepted", {request.body for request in accepted}),
        ):
            if len(values) > 1:
                harm = Harm.DOUBLED if what == "order ids" else Harm.WRONG
                yield Violation(f"key {holder.key}: {len(values)} {what} instead of one", first.order_id, harm)
        if any(request.status == KEY_CONFLICT and request.body == first.body for request in requests):
            yield Violation(f"key {holder.key}: the same body was refused as another", first.order_id)
        if books.key_orders.get(holder) != first.order_id:
            stands = books.key_orders.get(holder, "none")
            yield Violation(f"key {holder.key}: the order in its row is {stands}", first.order_id)
    yield from _shared_ids(books)


def topic_order_is_acceptance_order(books: Books) -> Iterator[Violation]:
    """S10: of two orders of a user, the one that was accepted before the other was sent stands before it.

    Where partitions were added, that holds among those placed before, and among those placed after (docs/adr/0037).
    """
    by_user: dict[tuple[str, int], dict[str, Request]] = {}
    began = _began(books)
    for request in _ended(books, End.OK):
        # Any confirmation will do, since a later one asks for less; when the order was first sent, `_began` says.
        first = began[request.order_id]
        era = books.testimony.era(first, request.ended or first) if books.testimony else 0
        if era is not None:
            by_user.setdefault((request.user, era), {}).setdefault(request.order_id, request)
    for orders in by_user.values():
        yield from _out_of_order(list(orders.values()), began, books)


def keyed_requests(books: Books) -> Mapping[KeyHolder, Sequence[Request]]:
    """Return the requests that reached for a key, by whose key it is, in the order in which they were sent."""
    found: dict[KeyHolder, list[Request]] = {}
    for request in books.testimony.requests if books.testimony else ():
        if request.key is not None:
            found.setdefault(KeyHolder(request.user, request.key), []).append(request)
    return found


def order_ids(books: Books) -> set[str]:
    """Return every order id that stands anywhere."""
    return set(chain(books.created, books.decisions, books.outcomes, books.statuses, books.sent, books.ledger))


def unsure_requests(books: Books) -> int:
    """Return how many requests ended without a sign whether they had an effect."""
    return sum(request.sent for request in _ended(books, End.INFO))


def _ended(books: Books, end: End) -> Iterator[Request]:
    for request in books.testimony.requests if books.testimony else ():
        if request.end is end:
            yield request


def _orphans(books: Books) -> dict[Wish, list[str]]:
    """Return the orders that no answer, no key and no producer names, by what was wished; oldest first."""
    testimony = books.testimony
    if testimony is None or not testimony.complete:
        return {}
    known = {request.order_id for request in testimony.requests}
    known.update(written.order_id for written in testimony.written)
    known.update(books.key_orders[holder] for holder in keyed_requests(books) if holder in books.key_orders)
    found: dict[Wish, list[str]] = {}
    for order_id in sorted(order_ids(books) - known):
        copies = books.created.get(order_id)
        found.setdefault((copies[0].user, copies[0].lines) if copies else ("", 0), []).append(order_id)
    return found


def _unsure(books: Books) -> Counter[Wish]:
    """Count the requests without key whose end is unknown: an order with a key is named by the key's row."""
    return Counter(
        (request.user, fingerprint(request.lines))
        for request in _ended(books, End.INFO)
        if request.sent and request.key is None and request.lines
    )


def _shared_ids(books: Books) -> Iterator[Violation]:
    """Yield the orders that two requests were given although they were no repetitions of each other."""
    causes: dict[str, set[tuple[str, str]]] = {}
    for request in _ended(books, End.OK):
        cause = (request.user, request.key) if request.key is not None else ("", request.id)
        causes.setdefault(request.order_id, set()).add(cause)
    for order_id, found in causes.items():
        if len(found) > 1:
            yield Violation(f"{len(found)} different requests were answered with this one order", order_id, Harm.LOST)


def _began(books: Books) -> dict[str, float]:
    """Return when each order was first asked for: by its key, if it has one, else by the request that was answered."""
    first: dict[str, float] = {}
    earliest = {holder: requests[0].began for holder, requests in keyed_requests(books).items()}
    for request in _ended(books, End.OK):
        began = request.began if request.key is None else earliest[KeyHolder(request.user, request.key)]
        first[request.order_id] = min(began, first.get(request.order_id, began))
    return first


def _out_of_order(requests: list[Request], began: Mapping[str, float], books: Books) -> Iterator[Violation]:
    """Yield the orders of one user that stand before one that had been accepted when they were sent."""
    on_topic = [(request, _first(books.created.get(request.order_id, ()))) for request in requests]
    ended = sorted(((request.ended or 0.0, copy) for request, copy in on_topic if copy), key=lambda pair: pair[0])
    highest: dict[int, Created] = {}
    passed = 0
    for request, copy in sorted(on_topic, key=lambda pair: began[pair[0].order_id]):
        if copy is None:
            continue
        while passed < len(ended) and ended[passed][0] < began[request.order_id]:
            before = ended[passed][1]
            if before.partition not in highest or highest[before.partition].offset < before.offset:
                highest[before.partition] = before
            passed += 1
        for before in highest.values():
            if before.partition != copy.partition or before.offset > copy.offset:
                yield Violation(f"{copy.at} was sent after {before.at} had been accepted", request.order_id)


def _first(copies: Sequence[Created]) -> Created | None:
    return min(copies, key=lambda copy: copy.offset, default=None)
