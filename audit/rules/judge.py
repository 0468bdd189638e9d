"""Judge books: ask every rule, and say of each culprit where it went wrong. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice

from audit.books import Books, Verdict
from audit.rules.invariants import (
    INVARIANTS,
    MINUTES_COUNTED,
    NO_FALSE_REFUSAL,
    TESTIMONY_INVARIANTS,
    Harm,
    Invariant,
    Violation,
)

EXAMPLES_MAX = 20
"""How many violations of one rule are kept in full; all are counted."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """How one rule stands: how many things it judged, how many of them broke it, the first of these."""

    invariant: str
    rule: str
    judged: int
    broken: int
    examples: tuple[Violation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The whole result. `harms`: violations by what they mean; `paths`: the way of each order among the examples."""

    rulings: tuple[Ruling, ...]
    counts: Mapping[str, int]
    harms: Mapping[Harm, int]
    paths: Mapping[str, tuple[str, ...]]

    @property
    def sound(self) -> bool:
        """Return True if no rule is broken."""
        return not any(ruling.broken for ruling in self.rulings)

    @property
    def idle(self) -> tuple[str, ...]:
        """Return the rules that were given nothing to judge."""
        return tuple(ruling.invariant for ruling in self.rulings if not ruling.judged)


def judge(books: Books, *, restocked: bool = True) -> Judgement:
    """Ask every rule; `restocked=False` also asks the one that holds only where no stock was added.

    Where there is testimony, also those that judge it, each by what it was given.
    """
    rules = INVARIANTS if books.testimony is None else (*INVARIANTS, *TESTIMONY_INVARIANTS)
    rules = (*rules, MINUTES_COUNTED) if books.counting or books.partials else rules
    rules = rules if restocked else (*rules, NO_FALSE_REFUSAL)
    harms = dict.fromkeys(Harm, 0)
    rulings = tuple(_ruling(rule, books, harms) for rule in rules)
    named = {violation.order_id: None for ruling in rulings for violation in ruling.examples if violation.order_id}
    return Judgement(
        rulings=rulings,
        counts=_counts(books),
        harms=harms,
        paths={order_id: path(order_id, books) for order_id in named},
    )


def path(order_id: str, books: Books) -> tuple[str, ...]:
    """Return one line per thing that the books know of an order, in the order in which they should have happened."""
    lines = [f"record     {copy.at}" for copy in books.created.get(order_id, ())] or ["record     none"]
    decision = books.decisions.get(order_id)
    if decision is None:
        lines.append("decision   none")
    else:
        lines.append(
            f"decision   {decision.verdict.name.lower()}, owner {decision.owner}, event {decision.event_id}, "
            f"replays {decision.replays}"
        )
    lines += [
        f"event      {event.at}, event {event.event_id}, from {event.source}"
        for event in books.outcomes.get(order_id, ())
    ] or ["event      none"]
    status = books.statuses.get(order_id)
    notified = ", notified" if status and status.notified_at is not None else ""
    lines.append(f"status     {status.status if status else 'none'}{notified}")
    lines += [
        f"ledger     {row.kind} by {row.channel}: {row.state}, event {row.event_id}"
        for row in books.ledger.get(order_id, ())
    ] or ["ledger     none"]
    lines += [f"notified   {record.at}, {record.kind} by {record.channel}" for record in books.sent.get(order_id, ())]
    return tuple(lines)


def _ruling(rule: Invariant, books: Books, harms: dict[Harm, int]) -> Ruling:
    found = iter(rule.violations(books))
    examples = tuple(islice(found, EXAMPLES_MAX))
    broken = 0
    for violation in chain(examples, found):
        broken += 1
        harms[violation.harm] += 1
    return Ruling(rule.id, rule.rule, rule.judged(books), broken, examples)


def _counts(books: Books) -> dict[str, int]:
    events = [event for group in books.outcomes.values() for event in group]
    return {
        "orders": len(books.created),
        "records": sum(map(len, books.created.values())) + len(books.poison),
        "reserved": sum(event.verdict is Verdict.RESERVED for event in events),
        "failed": sum(event.verdict is Verdict.FAILED for event in events),
        "notified": len(books.sent),
        "minutes": len({total.minute for total in books.totals if total.orders}),
        "dead_letters": len(books.dead_letters),
        "replays": sum(decision.replays for decision in books.decisions.values()),
    }
