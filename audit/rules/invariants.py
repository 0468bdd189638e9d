"""The rules of the books, in one table. Numbers as in docs/guarantees.md.

Each rule asks only what its neighbours do not, so that one fault has one name: whether an event exists at all is S5,
whether it is the right one S7, whether its record may have one S8. `judged` is 0 where a rule was given nothing.
"""

from collections.abc import Iterator, Mapping

from audit.books import Books
from audit.rules import follower_rules, minute_rules, order_rules, request_rules, status_rules, stock_rules
from audit.rules.rule import Harm, Invariant, Violation

__all__ = [
    "INVARIANTS",
    "MINUTES_COUNTED",
    "NO_FALSE_REFUSAL",
    "TESTIMONY_INVARIANTS",
    "Harm",
    "Invariant",
    "Violation",
]


def _on_topic(books: Books) -> Iterator[Violation]:
    yield from order_rules.orders_on_topic(books)
    yield from request_rules.confirmed_is_there(books)


def _in_order(books: Books) -> Iterator[Violation]:
    yield from order_rules.events_in_owner_order(books)
    yield from request_rules.topic_order_is_acceptance_order(books)


def _leaks(books: Books) -> Iterator[Violation]:
    """S16: no secret and no address stands in a log."""
    for leak in books.testimony.leaks if books.testimony else ():
        yield Violation(f"{leak.file}, line {leak.line}, holds {leak.what}")


NO_FALSE_REFUSAL = Invariant(
    "S14",
    "no order failed for lack of stock that was there",
    lambda books: sum(decision.reason in stock_rules.ABOUT_STOCK for decision in books.decisions.values()),
    stock_rules.no_false_refusal,
)
"""Asked only of runs that restock nothing."""

MINUTES_COUNTED = Invariant(
    "S12",
    "each closed minute is counted once",
    lambda books: len(books.partials) + len(books.totals),
    minute_rules.minutes_counted,
)
"""Asked only where minutes are counted."""

INVARIANTS = (
    Invariant("S1", "what was confirmed is on the topic, byte for byte", lambda books: len(books.created), _on_topic),
    Invariant("S5", "exactly one event per order", lambda books: len(books.created), order_rules.one_event),
    Invariant(
        "S6",
        "on hand = available + reserved, never negative",
        lambda books: len(books.stock) + _sampled(books),
        stock_rules.stock_balance,
    ),
    Invariant(
        "S7", "each event is its order's decision", lambda books: _size(books.outcomes), order_rules.event_is_decision
    ),
    Invariant(
        "S8",
        "each record has one fate",
        lambda books: _size(books.created) + len(books.poison),
        order_rules.one_fate,
    ),
    Invariant(
        "S9",
        "nothing rests on what never happened",
        lambda books: _size(books.ledger) + _reread(books),
        follower_rules.nothing_from_nowhere,
    ),
    Invariant("S10", "orders and events keep their order", lambda books: len(books.outcomes), _in_order),
    Invariant(
        "S11",
        "dead letters are complete",
        lambda books: len(books.dead_letters),
        order_rules.dead_letters_complete,
    ),
    Invariant("S13", "one notification per event", lambda books: _size(books.outcomes), follower_rules.notified_once),
    Invariant(
        "S15", "every event decodes", lambda books: _size(books.outcomes) + _size(books.sent), order_rules.readable
    ),
    Invariant("S17", "the status is the verdict", lambda books: len(books.statuses), status_rules.status_is_verdict),
    Invariant(
        "L1",
        "every accepted order came through in time",
        lambda books: len(books.created),
        order_rules.all_came_through,
    ),
    Invariant(
        "L2",
        "no open transaction holds readers up",
        lambda books: len(books.ends),
        order_rules.readers_not_held_up,
    ),
)
"""Asked of every run, in this order."""

TESTIMONY_INVARIANTS = (
    Invariant(
        "S2",
        "no order without a client",
        lambda books: (
            len(request_rules.order_ids(books)) if books.testimony is not None and books.testimony.complete else 0
        ),
        request_rules.every_order_has_a_client,
    ),
    Invariant(
        "S3",
        "an unsure request is one order at most",
        request_rules.unsure_requests,
        request_rules.unsure_is_one_at_most,
    ),
    Invariant(
        "S4",
        "one key is one order and one answer",
        lambda books: len(request_rules.keyed_requests(books)),
        request_rules.one_order_per_key,
    ),
    Invariant(
        "S16",
        "no secret and no address in a log",
        lambda books: books.testimony.log_lines if books.testimony else 0,
        _leaks,
    ),
)
"""Asked only where there is testimony of what no topic and no table holds."""


def _size(groups: Mapping[str, tuple[object, ...]]) -> int:
    return sum(map(len, groups.values()))


def _sampled(books: Books) -> int:
    return sum(len(snapshot.stock) for snapshot in books.testimony.snapshots) if books.testimony else 0


def _reread(books: Books) -> int:
    rereading = books.testimony.rereading if books.testimony else None
    return rereading.records if rereading else 0
