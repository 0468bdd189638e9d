"""S12 finds every way in which minutes can be counted wrongly, on a pipeline that runs as on one at rest."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from audit.books import Books, Counting, DeadLetter, Decision, Outcome, Partial, Total, Verdict
from audit.rules.invariants import MINUTES_COUNTED, Harm
from audit.rules.judge import judge
from audit.terms import Coordinate, Spot

RESERVED, FAILED = Spot("inventory.reserved", 0), Spot("inventory.failed", 1)
NOON = 1_800_000_000_000
ONE, TWO, THREE = (NOON + minute * 60_000 for minute in range(3))


def outcome(spot: Spot, offset: int, minute: int, units: int = 2) -> Mapping[str, tuple[Outcome, ...]]:
    order_id = f"{spot.topic}@{offset}"
    verdict = Verdict(spot.topic)
    return {order_id: (Outcome(verdict, spot.partition, offset, order_id, "e", "e", b"", None, minute, units),)}


def make_books() -> Books:
    """Return sound books: minute ONE is closed on both partitions and has a late order, TWO on one, THREE is open."""
    return Books(
        outcomes={
            **outcome(RESERVED, 0, ONE),
            **outcome(RESERVED, 2, TWO),
            **outcome(RESERVED, 3, ONE, units=5),
            **outcome(RESERVED, 5, ONE),
            **outcome(RESERVED, 7, THREE),
            **outcome(RESERVED, 9, ONE),
            **outcome(FAILED, 0, ONE),
            **outcome(FAILED, 4, TWO),
        },
        partials=(
            Partial(0, RESERVED, ONE, 2, 0, 7, 0, until=4),
            Partial(2, FAILED, ONE, 0, 1, 0, 0, until=1),
            Partial(4, RESERVED, TWO, 1, 0, 2, 0, until=8),
            Partial(5, RESERVED, ONE, 1, 0, 2, 1, until=8),
            Partial(7, RESERVED, ONE, 1, 0, 2, 1, until=10),
        ),
        totals=(
            Total(0, ONE - 60_000, 0, 0, 0, 0, 0, 0),
            Total(2, ONE, 2, 2, 0, 7, 0, 1),
            Total(3, ONE, 4, 3, 1, 9, 1, 3),
            Total(5, TWO, 1, 1, 0, 2, 0, 1),
        ),
        counting={RESERVED: Counting(8, THREE), FAILED: Counting(5, TWO)},
        added_to=6,
        overdue={RESERVED: 6, FAILED: 1},
        overdue_ms=TWO,
    )


def partial(at: int, **changes: Any) -> Callable[[Books], Books]:
    def defect(books: Books) -> Books:
        partials = tuple(each._replace(**changes) if each.offset == at else each for each in books.partials)
        return replace(books, partials=partials)

    return defect


def total(at: int, **changes: Any) -> Callable[[Books], Books]:
    def defect(books: Books) -> Books:
        return replace(books, totals=tuple(t._replace(**changes) if t.offset == at else t for t in books.totals))

    return defect


DEFECTS: dict[str, tuple[Harm, Callable[[Books], Books]]] = {
    "a minute is closed twice": (
        Harm.DOUBLED,
        lambda books: replace(books, partials=(*books.partials, Partial(8, FAILED, ONE, 0, 0, 0, 0, until=1))),
    ),
    "an order is counted twice": (Harm.DOUBLED, partial(0, reserved=3)),
    "an order is not counted": (Harm.LOST, partial(0, reserved=1)),
    "a late order is not counted": (
        Harm.LOST,
        lambda books: replace(books, partials=tuple(each for each in books.partials if each.offset != 5)),
    ),
    "an order is counted in another minute": (Harm.LOST, partial(4, minute=ONE)),
    "units of other lines are counted": (Harm.WRONG, partial(0, units=8)),
    "a total is not the sum of its partials": (Harm.WRONG, total(3, reserved=4, orders=5)),
    "a total's orders are not its verdicts": (Harm.WRONG, total(3, orders=5)),
    "a total forgets that an order was late": (Harm.WRONG, total(3, late=0)),
    "a total counts a partial that does not exist": (Harm.WRONG, total(5, revision=2)),
    "a revision comes twice": (Harm.DOUBLED, total(3, revision=1, orders=2, reserved=2, failed=0, units=7, late=0)),
    "a partial that was read is in no total": (
        Harm.LOST,
        lambda books: replace(books, totals=books.totals[:3]),
    ),
    "a minute stays open for ever": (
        Harm.LOST,
        lambda books: replace(books, overdue={RESERVED: 8}, overdue_ms=THREE + 60_000),
    ),
    "a partition is never counted": (
        Harm.LOST,
        lambda books: replace(books, overdue={**books.overdue, FAILED: 5}, overdue_ms=THREE),
    ),
}


def test_sound_minutes_break_nothing_while_others_are_open() -> None:
    assert list(MINUTES_COUNTED.violations(make_books())) == []


@pytest.mark.parametrize("name", DEFECTS)
def test_every_wrong_count_is_found(name: str) -> None:
    harm, defect = DEFECTS[name]
    found = list(MINUTES_COUNTED.violations(defect(make_books())))
    assert found
    assert harm in {violation.harm for violation in found}, found


def test_outcome_that_the_metrics_put_aside_is_not_expected() -> None:
    books = make_books()
    letter = DeadLetter(
        Coordinate("inventory.reserved.metrics.dlq", 0, 0), Coordinate("inventory.reserved", 0, 0), b"", ()
    )
    books = replace(partial(0, reserved=1, units=5)(books), dead_letters=(letter,), totals=())
    assert [v.harm for v in MINUTES_COUNTED.violations(replace(books, added_to=0))] == []


def test_rule_is_asked_only_where_minutes_are_counted() -> None:
    asked = {ruling.invariant for ruling in judge(make_books()).rulings}
    assert "S12" in asked
    uncounted = replace(make_books(), partials=(), totals=(), counting={})
    assert "S12" not in {ruling.invariant for ruling in judge(uncounted).rulings}


def decided(books: Books) -> Books:
    """Return books of minutes that are over: all are closed and added up, each event is a decision's."""
    events = [event for group in books.outcomes.values() for event in group]
    owner = Coordinate("orders.created", 0, 0)
    return replace(
        books,
        decisions={e.order_id: Decision(e.verdict, e.event_id, e.digest, owner, 1, (), 0) for e in events},
        totals=(
            *books.totals,
            Total(7, ONE, 5, 4, 1, 11, 2, 4),
            Total(9, TWO, 2, 1, 1, 2, 0, 2),
            Total(11, THREE, 1, 1, 0, 2, 0, 1),
        ),
        partials=(
            *books.partials,
            Partial(9, FAILED, TWO, 0, 1, 0, 0, until=5),
            Partial(11, RESERVED, THREE, 1, 0, 2, 0, until=10),
        ),
        counting={RESERVED: Counting(10, THREE + 60_000), FAILED: Counting(5, THREE)},
        added_to=12,
        overdue={},
        minutes_over=True,
    )


def test_totals_of_minutes_that_are_over_are_the_decisions() -> None:
    assert list(MINUTES_COUNTED.violations(decided(make_books()))) == []


@pytest.mark.parametrize(
    ("defect", "harm"),
    [
        (lambda books: replace(books, totals=books.totals[:-1], partials=books.partials[:-1]), Harm.LOST),
        (lambda books: replace(books, decisions=dict(list(books.decisions.items())[1:])), Harm.DOUBLED),
    ],
    ids=["a minute has no total", "a total holds an order that was not decided"],
)
def test_metrics_that_say_nothing_of_themselves_are_judged_once_minutes_are_over(
    defect: Callable[[Books], Books], harm: Harm
) -> None:
    """Without a word in the offset metadata nothing counts as read or closed, and no other part of S12 has a say."""
    books = replace(defect(decided(make_books())), counting={}, added_to=0)
    assert {violation.harm for violation in MINUTES_COUNTED.violations(books)} == {harm}
    assert list(MINUTES_COUNTED.violations(replace(books, minutes_over=False))) == []
