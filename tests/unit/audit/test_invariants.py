"""Each rule catches the defect that is planted for it, and no other rule claims it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from audit.books import (
    Books,
    Created,
    DeadLetter,
    Decision,
    Key,
    Lacking,
    LedgerRow,
    Outcome,
    Poison,
    Progress,
    Sent,
    Stall,
    Status,
    Undecodable,
    Unfinished,
    Verdict,
)
from audit.rules.invariants import INVARIANTS, NO_FALSE_REFUSAL, Harm
from audit.rules.judge import judge
from audit.terms import Coordinate, Spot, Stock, Tally, Turns

CREATED, RESERVED, FAILED, SENT = "orders.created", "inventory.reserved", "inventory.failed", "notification.sent"
DLQ = "orders.created.inventory.dlq"
POISON_AT = Coordinate(CREATED, 0, 2)
ALL_READ = {Spot(CREATED, 0): 4, Spot(RESERVED, 0): 9, Spot(FAILED, 0): 9, Spot(SENT, 0): 9, Spot(DLQ, 0): 9}

SHORT, LIMITED = Lacking("insufficient_stock", "mug", 3, 2), Lacking("other", "mug", 3, 0)


def make_event(verdict: Verdict, offset: int, order_id: str, *, digest: bytes, source: int, lines: int) -> Outcome:
    event_id, answered = f"e-{order_id}", Coordinate(CREATED, 0, source)
    return Outcome(verdict, 0, offset, order_id, event_id, event_id, digest, answered, lines=lines)


def make_books() -> Books:
    """Return sound books: `tea` reserved, `mug` failed, then poison and a copy of `tea`; `new` is in flight."""
    return Books(
        created={
            "tea": (Created(0, 0, "tea", b"T", 1), Created(0, 3, "tea", b"T", 1)),
            "mug": (Created(0, 1, "mug", b"M", 2),),
            "new": (Created(0, 4, "new", b"N", 3),),
        },
        poison=(Poison(POISON_AT, b"P", "magic"),),
        outcomes={
            "tea": (
                Outcome(Verdict.RESERVED, 0, 5, "tea", "e-tea", "e-tea", b"R", Coordinate(CREATED, 0, 0), lines=1),
            ),
            "mug": (make_event(Verdict.FAILED, 6, "mug", digest=b"F", source=1, lines=2)._replace(lacking=SHORT),),
        },
        sent={
            "tea": (
                Sent(0, 1, "tea", "n-tea", "order_confirmed", "log", Coordinate(RESERVED, 0, 5), sent_at=7),
                Sent(0, 3, "tea", "n-tea", "order_confirmed", "log", Coordinate(RESERVED, 0, 5), sent_at=7),
            ),
            "mug": (Sent(0, 2, "mug", "n-mug", "out_of_stock", "log", None, sent_at=7),),
        },
        dead_letters=(DeadLetter(Coordinate(DLQ, 0, 0), POISON_AT, b"P", ()),),
        ends={**ALL_READ, Spot(CREATED, 0): 5},
        keys=(Key("tea", b"T"),),
        decisions={
            "tea": Decision(Verdict.RESERVED, "e-tea", b"R", Coordinate(CREATED, 0, 0), 1, (), 1),
            "mug": Decision(
                Verdict.FAILED, "e-mug", b"F", Coordinate(CREATED, 0, 1), 2, (("mug", 3),), 0, SHORT.reason
            ),
        },
        stock=(Stock("tea", 10, 8, 2), Stock("mug", 2, 2, 0)),
        statuses={
            "tea": Status("reserved", 7, lines=1),
            "mug": Status("failed", 7, lines=2, lacking=SHORT),
            "new": Status("pending", lines=3),
        },
        ledger={
            "tea": (LedgerRow("order_confirmed", "log", "e-tea", "sent", sent_at=7),),
            "mug": (LedgerRow("out_of_stock", "log", "e-mug", "sent", sent_at=7),),
        },
        progress=Progress(
            inventory_before={Spot(CREATED, 0): 4},
            inventory_after={Spot(CREATED, 0): 4},
            notification=ALL_READ,
            projection={**ALL_READ, Spot(CREATED, 0): 5},
        ),
    )


Defect = Callable[[Books], dict[str, Any]]


def with_outcome(order_id: str, **changes: Any) -> Defect:
    return lambda books: {"outcomes": {**books.outcomes, order_id: (books.outcomes[order_id][0]._replace(**changes),)}}


def with_decision(order_id: str, **changes: Any) -> Defect:
    return lambda books: {"decisions": {**books.decisions, order_id: books.decisions[order_id]._replace(**changes)}}


def with_ledger(order_id: str, **changes: Any) -> Defect:
    return lambda books: {"ledger": {**books.ledger, order_id: (books.ledger[order_id][0]._replace(**changes),)}}


def with_sent(order_id: str, **changes: Any) -> Defect:
    return lambda books: {"sent": {**books.sent, order_id: (books.sent[order_id][0]._replace(**changes),)}}


def without(field: str, order_id: str) -> Defect:
    return lambda books: {field: {key: value for key, value in getattr(books, field).items() if key != order_id}}


def twice(field: str, order_id: str, **changes: Any) -> Defect:
    def defect(books: Books) -> dict[str, Any]:
        group = getattr(books, field)
        return {field: {**group, order_id: (*group[order_id], group[order_id][0]._replace(**changes))}}

    return defect


def with_progress(**changes: Any) -> Defect:
    return lambda books: {"progress": replace(books.progress, **changes)}


def always(**changes: Any) -> Defect:
    return lambda _: changes


LETTER = DeadLetter(Coordinate(DLQ, 0, 0), POISON_AT, b"P", ())


def held_in_part(books: Books, *lines: tuple[str, int]) -> dict[str, Any]:
    """Return what changes when `tea` asked for three units and its decision holds these lines."""
    return {
        **with_decision("tea", lines=9, row_lines=lines)(books),
        **with_outcome("tea", lines=9)(books),
        "created": {**books.created, "tea": tuple(c._replace(asked=(("tea", 3),)) for c in books.created["tea"])},
        "statuses": {**books.statuses, "tea": books.statuses["tea"]._replace(lines=9)},
    }


DEFECTS: dict[str, tuple[str, Defect]] = {
    "a confirmed order is not on the topic": ("S1", always(keys=(Key("gone", b"G"),))),
    "the topic holds other bytes than the key": ("S1", always(keys=(Key("tea", b"X"),))),
    "a retry changed the record": ("S1", twice("created", "tea", digest=b"X")),
    "an event is lost": ("S5", without("outcomes", "mug")),
    "an order is passed over": (
        "S5",
        with_progress(inventory_before={Spot(CREATED, 0): 5}, inventory_after={Spot(CREATED, 0): 5}),
    ),
    "an event is doubled": ("S5", twice("outcomes", "tea", offset=8)),
    "a SKU is oversold": ("S6", always(stock=(Stock("tea", 1, 0, 2),))),
    "stock is negative": ("S6", always(stock=(Stock("tea", 1, -1, 2),))),
    "stock leaks": ("S6", always(stock=(Stock("tea", 10, 7, 2),))),
    "the total of reservations lags": ("S6", always(tallies=(Tally(1, "none", 1, 2),))),
    "a reservation of a SKU without stock row": ("S6", always(stock=(Stock("tea", None, None, 2),))),
    "an event is rebuilt on replay": ("S7", with_outcome("tea", digest=b"X")),
    "an event has another id than its decision": ("S7", with_outcome("tea", event_id="x")),
    "an event's header names another id": ("S7", with_outcome("tea", header_id="x")),
    "a copy emits instead of the owner": ("S7", with_outcome("tea", source=Coordinate(CREATED, 0, 3))),
    "an event without source": ("S7", with_outcome("tea", source=None)),
    "a decision was made over other lines": ("S7", with_decision("tea", lines=9)),
    "more is held than was ordered": ("S7", lambda books: held_in_part(books, ("tea", 4))),
    "something else is held than was ordered": ("S7", lambda books: held_in_part(books, ("mug", 1))),
    "nothing of a reserved order is held": ("S7", lambda books: held_in_part(books, ("tea", 0))),
    "a reserved order has no line": ("S7", held_in_part),
    "a SKU is held on two lines": ("S7", lambda books: held_in_part(books, ("tea", 1), ("tea", 1))),
    "an event names more than is held": (
        "S7",
        lambda books: {
            **held_in_part(books, ("tea", 2)),
            **with_outcome("tea", lines=1)(books),
            "statuses": books.statuses,
        },
    ),
    "a failed order keeps a part of its lines": ("S7", with_decision("mug", lines=9, row_lines=(("mug", 1),))),
    "a decision counts as another customer's": ("S7", with_decision("tea", user="eve")),
    "a decision of a customer is missing from the count": ("S7", always(turns=(Turns("ada", 2, 3),))),
    "poison is skipped in silence": ("S8", always(dead_letters=())),
    "a decided order is dead-lettered too": (
        "S8",
        always(dead_letters=(LETTER, LETTER._replace(source=Coordinate(CREATED, 0, 1), digest=b"M", value=b"M"))),
    ),
    "the owner's coordinate holds another order": (
        "S8",
        lambda books: {
            **with_decision("tea", owner=Coordinate(CREATED, 0, 1))(books),
            **with_outcome("tea", source=Coordinate(CREATED, 0, 1))(books),
        },
    ),
    "an event is ahead of the committed offset": ("S8", with_progress(inventory_after={Spot(CREATED, 0): 1})),
    "a notification of an event that never was": ("S9", with_ledger("tea", event_id="x")),
    "a notification of a record that was never committed": (
        "S9",
        with_sent("tea", source=Coordinate(RESERVED, 0, 4)),
    ),
    "events overtake each other": (
        "S10",
        lambda books: {
            "outcomes": {
                **books.outcomes,
                "cup": (
                    Outcome(Verdict.RESERVED, 0, 4, "cup", "e-cup", "e-cup", b"C", Coordinate(CREATED, 0, 3), lines=4),
                ),
            },
            "decisions": {
                **books.decisions,
                "cup": Decision(Verdict.RESERVED, "e-cup", b"C", Coordinate(CREATED, 0, 3), 4, (), 0),
            },
            "created": {
                **books.created,
                "tea": books.created["tea"][:1],
                "cup": (Created(0, 3, "cup", b"K", 4),),
            },
            "statuses": {**books.statuses, "cup": Status("reserved", 7, lines=4)},
            "ledger": {**books.ledger, "cup": (LedgerRow("order_confirmed", "log", "e-cup", "sent", sent_at=7),)},
            "sent": {
                **books.sent,
                "cup": (Sent(0, 4, "cup", "n-cup", "order_confirmed", "log", Coordinate(RESERVED, 0, 4), sent_at=7),),
            },
        },
    ),
    "a dead letter lacks a header": ("S11", always(dead_letters=(LETTER._replace(missing=("dlq_reason",)),))),
    "a dead letter has other bytes": ("S11", always(dead_letters=(LETTER._replace(digest=b"X"),))),
    "a dead letter is doubled": ("S11", always(dead_letters=(LETTER, LETTER._replace(at=Coordinate(DLQ, 0, 1))))),
    "a dead letter names a record of another topic": (
        "S11",
        always(dead_letters=(LETTER, LETTER._replace(at=Coordinate(SENT, 0, 1), source=Coordinate(RESERVED, 0, 8)))),
    ),
    "an event is never notified": ("S13", without("ledger", "tea")),
    "a notification is claimed and never sent": ("S13", with_ledger("tea", state="claimed")),
    "a notification is not on its topic": ("S13", without("sent", "mug")),
    "the customer is notified of the wrong thing too": ("S13", twice("ledger", "tea", kind="out_of_stock")),
    "the customer is notified twice": ("S13", twice("ledger", "tea")),
    "copies of one notification differ in id": ("S13", twice("sent", "mug", event_id="x")),
    "an event does not decode": ("S15", always(undecodable=(Undecodable(Coordinate(SENT, 0, 7), "magic"),))),
    "a status contradicts the verdict": (
        "S17",
        lambda books: {"statuses": {**books.statuses, "tea": Status("failed", 7, lines=1)}},
    ),
    "a status stays pending": (
        "S17",
        lambda books: {"statuses": {**books.statuses, "tea": Status("pending", lines=1)}},
    ),
    "a status is missing": ("S17", without("statuses", "new")),
    "a status is ahead of the decision": (
        "S17",
        lambda books: {"statuses": {**books.statuses, "new": Status("reserved", lines=3)}},
    ),
    "an order does not come through": ("L1", always(unfinished=(Unfinished("new", "outcome"),))),
    "an open transaction holds readers up": ("L2", always(stalls=(Stall(Coordinate(RESERVED, 0, 5), 7),))),
}


def broken(books: Books) -> set[str]:
    return {ruling.invariant for ruling in judge(books).rulings if ruling.broken}


def test_sound_books_break_no_rule() -> None:
    assert broken(make_books()) == set()
    assert judge(make_books(), restocked=False).sound


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_caught_by_its_own_rule_alone(defect: str) -> None:
    rule, plant = DEFECTS[defect]
    books = make_books()

    assert broken(replace(books, **plant(books))) == {rule}


def test_every_rule_has_a_defect_that_it_catches() -> None:
    assert {rule for rule, _ in DEFECTS.values()} == {invariant.id for invariant in INVARIANTS}


def test_a_refusal_with_stock_left_is_caught_only_where_nothing_was_restocked() -> None:
    books = replace(make_books(), stock=(Stock("tea", 10, 8, 2), Stock("mug", 5, 5, 0)))

    assert judge(books).sound
    assert [r.invariant for r in judge(books, restocked=False).rulings if r.broken] == [NO_FALSE_REFUSAL.id]


def test_a_refusal_for_a_reason_of_the_rules_own_makes_no_claim_about_stock() -> None:
    books = replace(make_books(), stock=(Stock("tea", 10, 8, 2), Stock("mug", 5, 5, 0)))
    limited = replace(
        books, **with_decision("mug", reason="other")(books), **with_outcome("mug", lacking=LIMITED)(books)
    )
    limited = replace(limited, statuses={**limited.statuses, "mug": limited.statuses["mug"]._replace(lacking=LIMITED)})
    assert judge(limited, restocked=False).sound


def test_a_part_of_an_order_may_be_held_if_row_event_and_status_say_the_same() -> None:
    books = make_books()
    assert judge(replace(books, **held_in_part(books, ("tea", 2)))).sound


def test_records_in_flight_are_not_judged() -> None:
    """Everything of `mug` behind the decision is still on its way, as it is on a live system."""
    books = make_books()
    flying = replace(
        books,
        **without("outcomes", "mug")(books),
        **without("ledger", "mug")(books),
        **without("sent", "mug")(books),
        statuses={**books.statuses, "mug": Status("pending", lines=2)},
        progress=replace(
            books.progress,
            inventory_before={Spot(CREATED, 0): 1},
            notification={Spot(RESERVED, 0): 6},
            projection={Spot(CREATED, 0): 5, Spot(RESERVED, 0): 6},
        ),
    )

    assert broken(flying) == set()


def test_what_retention_took_is_not_lost() -> None:
    books = make_books()
    trimmed = replace(books, **without("outcomes", "tea")(books), begins={Spot(RESERVED, 0): 6})

    assert broken(trimmed) == set()


def test_a_dead_lettered_order_needs_no_event() -> None:
    books = make_books()
    dead = replace(
        books,
        **without("outcomes", "mug")(books),
        **without("decisions", "mug")(books),
        **without("ledger", "mug")(books),
        **without("sent", "mug")(books),
        dead_letters=(LETTER, DeadLetter(Coordinate(DLQ, 0, 1), Coordinate(CREATED, 0, 1), b"M", (), b"M")),
        statuses={**books.statuses, "mug": Status("pending", lines=2)},
    )

    assert broken(dead) == set()


def test_an_event_whose_customer_cannot_be_reached_is_a_dead_letter_and_not_notified() -> None:
    books = make_books()
    at = Coordinate(FAILED, 0, 6)
    refused = replace(
        books,
        **with_ledger("mug", state="claimed", sent_at=None)(books),
        **without("sent", "mug")(books),
        statuses={**books.statuses, "mug": Status("failed", lines=2, lacking=SHORT)},
        dead_letters=(LETTER, DeadLetter(Coordinate("inventory.failed.notification.dlq", 0, 0), at, b"F", (), b"F")),
    )

    assert broken(refused) == set()


@pytest.mark.parametrize(
    ("defect", "harm"),
    [
        ("an event is lost", Harm.LOST),
        ("a confirmed order is not on the topic", Harm.LOST),
        ("an event is doubled", Harm.DOUBLED),
        ("a SKU is oversold", Harm.OVERSOLD),
    ],
)
def test_a_violation_says_what_it_means_to_the_shop(defect: str, harm: Harm) -> None:
    books = make_books()

    harms = judge(replace(books, **DEFECTS[defect][1](books))).harms

    assert {name for name, count in harms.items() if count} == {harm}


def test_the_path_of_a_culprit_leads_from_its_record_to_the_notification() -> None:
    books = make_books()
    judgement = judge(replace(books, **twice("outcomes", "tea", offset=8)(books)))

    assert judgement.paths["tea"] == (
        "record     orders.created 0@0",
        "record     orders.created 0@3",
        "decision   reserved, owner orders.created 0@0, event e-tea, replays 1",
        "event      inventory.reserved 0@5, event e-tea, from orders.created 0@0",
        "event      inventory.reserved 0@8, event e-tea, from orders.created 0@0",
        "status     reserved, notified",
        "ledger     order_confirmed by log: sent, event e-tea",
        "notified   notification.sent 0@1, order_confirmed by log",
        "notified   notification.sent 0@3, order_confirmed by log",
    )


def test_all_violations_are_counted_and_the_first_are_kept() -> None:
    books = replace(make_books(), unfinished=tuple(Unfinished(f"order {n}", "outcome") for n in range(1000)))

    ruling = next(r for r in judge(books).rulings if r.invariant == "L1")

    assert (ruling.broken, len(ruling.examples)) == (1000, 20)
