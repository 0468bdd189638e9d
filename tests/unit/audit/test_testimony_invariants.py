"""Rules over what clients, producers, samplers, logs and a second reader say: each catches what is planted for it."""

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
    LedgerRow,
    Outcome,
    Poison,
    Progress,
    Sent,
    Verdict,
)
from audit.readers.collector import fingerprint
from audit.rules.invariants import INVARIANTS, TESTIMONY_INVARIANTS, Harm
from audit.rules.judge import judge
from audit.rules.request_rules import topic_order_is_acceptance_order
from audit.rules.stock_rules import no_false_refusal
from audit.terms import Coordinate, KeyHolder, Spot, Stock
from audit.testimony import End, Kind, Leak, Request, Rereading, Snapshot, Written
from audit.testimony import Testimony as AllTestimony  # a name in Test... is collected

CREATED, RESERVED, SENT = "orders.created", "inventory.reserved", "notification.sent"
DLQ = "orders.created.inventory.dlq"
TEA, MUG = (("tea", 1),), (("mug", 2),)
POISON_AT = Coordinate(CREATED, 0, 3)
POISON = Poison(POISON_AT, b"P", "magic")
LETTER = DeadLetter(Coordinate(DLQ, 0, 0), POISON_AT, b"P", ())
ALL_READ = {Spot(CREATED, 0): 9, Spot(CREATED, 1): 9, Spot(RESERVED, 0): 9, Spot(SENT, 0): 9, Spot(DLQ, 0): 9}
ADA_S_KEY = KeyHolder("ada", "k1")

KEYED = Request("r1", "ada", "k1", TEA, "body-tea", 1.0, 2.0, End.OK, 202, "first", "reply-1")
AGAIN = KEYED._replace(id="r2", began=2.5, ended=2.6)
CONFLICT = KEYED._replace(id="r3", lines=MUG, body="body-mug", began=2.7, ended=2.8, end=End.FAIL, status=422)._replace(
    order_id="", reply=""
)
PLAIN = Request("r4", "ada", None, MUG, "body-mug", 3.0, 4.0, End.OK, 202, "second", "reply-2")
UNSURE = Request("r5", "bob", None, MUG, "body-mug", 5.0, 6.0, End.INFO, 503)
INVALID = Request("r6", "bob", "k2", (), "body-none", 7.0, 7.5, End.FAIL, 400)
REQUESTS = (KEYED, AGAIN, CONFLICT, PLAIN, UNSURE, INVALID)
WRITTEN = (
    Written(Kind.ORDER, "", "shop", "eve", 1, 0),
    Written(Kind.POISON, "magic", "", "eve", 0, 3, b"P".hex()),
)
SOUND = AllTestimony(
    requests=REQUESTS,
    written=WRITTEN,
    complete=True,
    snapshots=(Snapshot(1.5, (Stock("tea", 10, 9, 1),)),),
    log_lines=3,
    rereading=Rereading(20, (), frozenset({Coordinate(CREATED, 0, 7)})),
)
ORDERS = {
    "first": ("ada", TEA, 0, 0),
    "second": ("ada", MUG, 0, 1),
    "maybe": ("bob", MUG, 0, 2),
    "shop": ("eve", TEA, 1, 0),
}


def make_books() -> Books:
    """Return sound books of five reserved orders, of which `maybe` was never confirmed, with all testimony."""
    created, outcomes, decisions, sent, ledger = {}, {}, {}, {}, {}
    for number, (order_id, (user, lines, partition, offset)) in enumerate(ORDERS.items()):
        at = Coordinate(CREATED, partition, offset)
        created[order_id] = (Created(partition, offset, order_id, b"B", fingerprint(lines), user),)
        wanted = fingerprint(lines)
        event = Outcome(Verdict.RESERVED, 0, number, order_id, order_id, order_id, b"E", at, user=user, lines=wanted)
        outcomes[order_id] = (event,)
        decisions[order_id] = Decision(Verdict.RESERVED, order_id, b"E", at, fingerprint(lines), (), 0)
        ledger[order_id] = (LedgerRow("order_confirmed", "log", order_id, "sent", user, sent_at=0),)
        sent[order_id] = (
            Sent(0, number, order_id, order_id, "order_confirmed", "log", Coordinate(RESERVED, 0, number), user),
        )
    return Books(
        created=created,
        poison=(POISON,),
        outcomes=outcomes,
        sent=sent,
        ledger=ledger,
        dead_letters=(LETTER,),
        ends=ALL_READ,
        keys=(Key("first", b"B", "ada"),),
        key_orders={ADA_S_KEY: "first"},
        decisions=decisions,
        stock=(Stock("tea", 10, 8, 2),),
        progress=Progress(inventory_before=ALL_READ, inventory_after=ALL_READ),
        testimony=SOUND,
    )


Defect = Callable[[Books], dict[str, Any]]


def stated(**changes: Any) -> Defect:
    return lambda _: {"testimony": replace(SOUND, **changes)}


def requests(*changed: Request) -> Defect:
    """Return testimony in which these requests stand for those of the same id, and new ones come on top."""
    merged = {request.id: request for request in (*REQUESTS, *changed)}.values()
    return stated(requests=tuple(sorted(merged, key=lambda request: request.began)))


def without(order_id: str) -> Defect:
    """Return books from which an order is gone, wherever it stood."""
    names = ("created", "outcomes", "decisions", "sent", "ledger")
    return lambda books: {n: {k: v for k, v in getattr(books, n).items() if k != order_id} for n in names}


def another(user: str, lines: Any) -> Defect:
    """Return books with one more order on the topic, decided as any other."""

    def defect(books: Books) -> dict[str, Any]:
        at = Coordinate(CREATED, 0, 8)
        event = Outcome(Verdict.RESERVED, 0, 8, "x", "x", "x", b"E", at, user=user, lines=fingerprint(lines))
        return {
            "created": {**books.created, "x": (Created(0, 8, "x", b"B", fingerprint(lines), user),)},
            "outcomes": {**books.outcomes, "x": (event,)},
            "decisions": {**books.decisions, "x": Decision(Verdict.RESERVED, "x", b"E", at, fingerprint(lines), (), 0)},
        }

    return defect


def swapped(first: str, second: str) -> Defect:
    """Return books in which two orders stand in each other's place on the topic, events and all."""

    def defect(books: Books) -> dict[str, Any]:
        places = {first: books.created[second][0].at, second: books.created[first][0].at}
        offsets = {first: books.outcomes[second][0].offset, second: books.outcomes[first][0].offset}
        return {
            "created": {
                **books.created,
                **{o: (books.created[o][0]._replace(offset=at.offset),) for o, at in places.items()},
            },
            "outcomes": {
                **books.outcomes,
                **{o: (books.outcomes[o][0]._replace(source=at, offset=offsets[o]),) for o, at in places.items()},
            },
            "decisions": {**books.decisions, **{o: books.decisions[o]._replace(owner=at) for o, at in places.items()}},
            "sent": {
                **books.sent,
                **{
                    o: (books.sent[o][0]._replace(source=Coordinate(RESERVED, 0, offset)),)
                    for o, offset in offsets.items()
                },
            },
        }

    return defect


def events_swapped(first: str, second: str) -> Defect:
    def defect(books: Books) -> dict[str, Any]:
        one, other = books.outcomes[first][0], books.outcomes[second][0]
        named = {first: Coordinate(RESERVED, 0, other.offset), second: Coordinate(RESERVED, 0, one.offset)}
        return {
            "outcomes": {
                **books.outcomes,
                first: (one._replace(offset=other.offset),),
                second: (other._replace(offset=one.offset),),
            },
            "sent": {**books.sent, **{o: (books.sent[o][0]._replace(source=at),) for o, at in named.items()}},
        }

    return defect


def rereading(**changes: Any) -> Defect:
    assert SOUND.rereading is not None
    return stated(rereading=SOUND.rereading._replace(**changes))


DEFECTS: dict[str, tuple[str, Defect]] = {
    "an order that was answered 202 is not on the topic": ("S1", without("second")),
    "the record is not what was ordered": ("S1", requests(PLAIN._replace(lines=TEA))),
    "the record is of another user": ("S1", requests(PLAIN._replace(user="bob"))),
    "an acknowledged record is not where it was": (
        "S1",
        stated(written=(WRITTEN[0]._replace(offset=5), *WRITTEN[1:])),
    ),
    "an order came from nowhere": ("S2", another("zoe", TEA)),
    "a refused order is on the topic": ("S2", another("ada", (("mug", 3),))),
    "a refused request has a key": (
        "S2",
        lambda books: {"key_orders": {**books.key_orders, KeyHolder("bob", "k2"): "first"}},
    ),
    "an unsure request became two orders": ("S3", another("bob", MUG)),
    "a key gave two orders": (
        "S4",
        lambda books: {
            **another("ada", TEA)(books),
            **requests(AGAIN._replace(order_id="x", ended=3.5))(books),
        },
    ),
    "a repetition was answered otherwise": ("S4", requests(AGAIN._replace(reply="reply-9"))),
    "another body was accepted under a key": ("S4", requests(AGAIN._replace(body="body-9"))),
    "a repetition was refused as another order": ("S4", requests(CONFLICT._replace(body="body-tea", lines=TEA))),
    "a key's row names another order": ("S4", lambda _: {"key_orders": {ADA_S_KEY: "shop"}}),
    "a key's row is gone": ("S4", lambda _: {"key_orders": {}}),
    "two requests were answered with one order": ("S4", requests(PLAIN._replace(id="r7"))),
    "stock was out of balance in a snapshot": ("S6", stated(snapshots=(Snapshot(1.5, (Stock("tea", 10, 10, 1),)),))),
    "stock was negative in a snapshot": ("S6", stated(snapshots=(Snapshot(1.5, (Stock("tea", 1, -1, 2),)),))),
    "two readings differ": ("S9", rereading(differing=((Coordinate(CREATED, 0, 1), "another record"),))),
    "a dead letter names what was never committed": (
        "S9",
        lambda books: {
            "dead_letters": (*books.dead_letters, LETTER._replace(source=Coordinate(CREATED, 0, 7), digest=b"X")),
            "testimony": replace(SOUND, written=(), complete=False),
        },
    ),
    "a user's orders changed places": ("S10", swapped("first", "second")),
    "events changed places": ("S10", events_swapped("first", "maybe")),
    "a dead letter of a good record": (
        "S11",
        lambda books: {
            "dead_letters": (*books.dead_letters, LETTER._replace(source=Coordinate(CREATED, 0, 5), digest=b"X"))
        },
    ),
    "planted poison was taken for an order": (
        "S11",
        stated(written=(*WRITTEN, WRITTEN[1]._replace(offset=6))),
    ),
    "a secret is in a log": ("S16", stated(leaks=(Leak("worker-1", 7, "a secret"),))),
}


def judged(books: Books) -> dict[str, int]:
    return {ruling.invariant: ruling.judged for ruling in judge(books).rulings}


def broken(books: Books) -> set[str]:
    # There is no notification and no projection in these books, and all is judged that needs neither.
    return {ruling.invariant for ruling in judge(books).rulings if ruling.broken}


def test_sound_testimony_breaks_no_rule() -> None:
    assert broken(make_books()) == set()


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_caught_by_its_own_rule_alone(defect: str) -> None:
    rule, plant = DEFECTS[defect]
    books = make_books()

    assert broken(replace(books, **plant(books))) == {rule}


def test_every_rule_over_testimony_has_a_defect_that_it_catches() -> None:
    assert {invariant.id for invariant in TESTIMONY_INVARIANTS} <= {rule for rule, _ in DEFECTS.values()}
    assert {"S10"} <= {rule for rule, _ in DEFECTS.values()} <= {i.id for i in (*INVARIANTS, *TESTIMONY_INVARIANTS)}


def test_without_testimony_its_rules_are_not_asked() -> None:
    asked = judged(replace(make_books(), testimony=None))

    assert asked.keys() == {invariant.id for invariant in INVARIANTS}


def test_a_rule_that_is_given_nothing_says_so() -> None:
    nothing = judge(replace(make_books(), testimony=AllTestimony()))
    everything = judge(make_books())

    assert {"S2", "S3", "S4", "S16"} <= set(nothing.idle)
    assert set(everything.idle) == {"S17"}  # there is no projection here
    assert nothing.sound


def test_incomplete_testimony_asks_for_no_client_of_an_order() -> None:
    books = make_books()
    partly = replace(SOUND, requests=(), written=(), complete=False)

    assert broken(replace(books, testimony=partly)) == set()


@pytest.mark.parametrize("order_id", ["maybe"])
def test_an_unsure_order_may_be_there_or_not(order_id: str) -> None:
    books = make_books()

    assert broken(replace(books, **without(order_id)(books))) == set()


def test_a_request_that_never_left_caused_nothing() -> None:
    books = make_books()

    assert broken(replace(books, **requests(UNSURE._replace(sent=False))(books))) == {"S2"}


def test_a_request_whose_end_was_not_written_is_unsure() -> None:
    books = make_books()

    assert broken(replace(books, **requests(UNSURE._replace(ended=None, status=None))(books))) == set()


def test_an_unsure_request_with_a_key_is_named_by_its_row() -> None:
    books = make_books()
    unsure = UNSURE._replace(key="k3")
    plant = requests(unsure)(books)

    assert broken(replace(books, **plant, key_orders={**books.key_orders, KeyHolder("bob", "k3"): "maybe"})) == set()
    assert broken(replace(books, **plant)) == {"S2"}


def test_overlapping_requests_may_stand_in_any_order() -> None:
    books = make_books()
    overlapping = requests(PLAIN._replace(began=1.5))(books)

    assert broken(replace(books, **swapped("first", "second")(books), **overlapping)) == set()


def test_an_order_is_sent_when_its_key_is_first_used() -> None:
    """The first attempt of `second` began before `first` was confirmed; only a repetition was answered."""
    books = make_books()
    attempt = PLAIN._replace(id="r7", key="k4", began=1.5, ended=1.8, end=End.INFO, order_id="", reply="")
    repeated = requests(attempt, PLAIN._replace(key="k4"))(books)
    keys = {**books.key_orders, KeyHolder("ada", "k4"): "second"}

    assert broken(replace(books, **swapped("first", "second")(books), **repeated, key_orders=keys)) == set()


def test_poison_that_was_not_acknowledged_may_be_there() -> None:
    books = make_books()
    unsure = stated(written=(WRITTEN[0], WRITTEN[1]._replace(partition=None, offset=None)))(books)

    assert broken(replace(books, **unsure)) == set()


def test_what_is_in_doubt_is_reported_as_lost_or_doubled() -> None:
    books = make_books()
    for defect, harm in (
        ("an order that was answered 202 is not on the topic", Harm.LOST),
        ("an order came from nowhere", Harm.DOUBLED),
        ("an unsure request became two orders", Harm.DOUBLED),
        ("a key gave two orders", Harm.DOUBLED),
        ("a dead letter of a good record", Harm.LOST),
    ):
        harms = judge(replace(books, **DEFECTS[defect][1](books))).harms
        assert harms[harm] >= 1, defect


def test_heads_that_never_held_an_order_excuse_nothing() -> None:
    """Red while a trimmed head, whatever stood there, had the rules take what is lost for what is gone."""
    begins = {Spot(CREATED, 0): 40, Spot(CREATED, 1): 43}
    books = make_books()
    lost = replace(books, created={key: group for key, group in books.created.items() if key != "second"})
    trimmed = replace(lost, begins=begins)

    assert "S1" in broken(lost)
    assert "S1" not in broken(trimmed)
    assert "S1" in broken(replace(trimmed, testimony=replace(SOUND, heads=begins)))
    assert "S1" not in broken(replace(trimmed, testimony=replace(SOUND, heads={Spot(CREATED, 0): 39})))


def test_an_accepted_order_without_decision_is_lost_also_if_retention_took_it() -> None:
    trimmed = replace(make_books(), **without("second")(make_books()), begins={Spot(CREATED, 0): 40})

    assert "S1" in broken(trimmed)


def test_a_refusal_of_a_restocked_sku_is_not_judged_and_every_other_is() -> None:
    books = make_books()
    refused = {
        order_id: decision._replace(verdict=Verdict.FAILED, reason="insufficient_stock", row_lines=((sku, 1),))
        for (order_id, decision), sku in zip(books.decisions.items(), ("tea", "mug", "tea", "tea"), strict=True)
    }
    stock = (Stock("tea", 10, 10, 0), Stock("mug", 5, 5, 0))
    books = replace(books, decisions=refused, stock=stock, testimony=replace(SOUND, restocked=frozenset({"tea"})))

    assert [violation.order_id for violation in no_false_refusal(books)] == ["second"]


def test_orders_keep_their_order_before_and_after_a_growth_and_not_across() -> None:
    """`second` of ada moved to another partition: wrong where none was added, and where both came after it."""
    at = {"second": (Created(7, 0, "second", b"B", fingerprint(MUG), "ada"),)}
    books = replace(make_books(), created={**make_books().created, **at})
    moved = "was sent after"

    def found_with(*grown: tuple[float, float]) -> list[str]:
        judged = replace(books, testimony=replace(SOUND, grown=grown))
        return [found.what for found in topic_order_is_acceptance_order(judged) if moved in found.what]

    assert found_with()
    assert found_with((0.1, 0.5))
    assert found_with((5.0, 6.0))
    assert not found_with((2.1, 2.9))
    assert not found_with((2.1, 3.5))
