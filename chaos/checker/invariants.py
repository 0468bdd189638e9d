"""The rules of the books, one pure function each. Numbers as in docs/guarantees.md.

Each rule asks only what its neighbours do not, so that one fault has one name: whether an event exists at all is S5,
whether it is the right one S7, whether its record may have one S8.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from chaos.checker.books import Books, Coordinate, Created, DeadLetter, Decision, Outcome, Verdict, below
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED

KIND_OF = {Verdict.RESERVED: "order_confirmed", Verdict.FAILED: "out_of_stock"}
STATUS_OF = {Verdict.RESERVED: "reserved", Verdict.FAILED: "failed"}


class Harm(Enum):
    """What a violation means to the shop."""

    LOST = "lost"
    DOUBLED = "doubled"
    OVERSOLD = "oversold"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule. `order_id` is empty where no order is to blame."""

    what: str
    order_id: str = ""
    harm: Harm = Harm.WRONG


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule: `judged` counts what it looked at, `violations` yields what breaks it."""

    id: str
    rule: str
    judged: Callable[[Books], int]
    violations: Callable[[Books], Iterator[Violation]]


def orders_on_topic(books: Books) -> Iterator[Violation]:
    """S1: a confirmed order is on `orders.created`, and all copies carry the bytes that are stored with its key."""
    for order_id, copies in books.created.items():
        if any(copy.digest != copies[0].digest for copy in copies):
            yield Violation(f"{len(copies)} copies on {ORDERS_CREATED.name} differ", order_id)
    for key in books.keys:
        found = books.created.get(key.order_id)
        if found and found[0].digest != key.digest:
            yield Violation("the record is not what is stored with its key", key.order_id)
        elif not found and not books.trimmed(ORDERS_CREATED.name):
            yield Violation(f"confirmed to the client, but not on {ORDERS_CREATED.name}", key.order_id, Harm.LOST)


def one_event(books: Books) -> Iterator[Violation]:
    """S5: an order whose record the inventory left behind has exactly one event; no order ever has two."""
    dead = _dead_letters(books)
    gone = books.trimmed(INVENTORY_RESERVED.name, INVENTORY_FAILED.name)
    passed = books.progress.inventory_before
    for order_id, copies in books.created.items():
        if order_id in books.outcomes or (gone and order_id in books.decisions):
            continue
        if any(below(copy.at, passed) and copy.at not in dead for copy in copies):
            yield Violation("left behind by the inventory without an event", order_id, Harm.LOST)
    for order_id, events in books.outcomes.items():
        if len(events) > 1:
            yield Violation(f"{len(events)} events instead of one", order_id, Harm.DOUBLED)


def stock_balance(books: Books) -> Iterator[Violation]:
    """S6: on hand = available + reserved, and nothing is negative."""
    for row in books.stock:
        if row.on_hand is None or row.available is None:
            yield Violation(f"{row.sku}: {row.reserved} reserved of a SKU that has no stock row", harm=Harm.OVERSOLD)
        elif row.available < 0 or row.reserved > row.on_hand:
            yield Violation(f"{_balance(row.sku, row.on_hand, row.available, row.reserved)}", harm=Harm.OVERSOLD)
        elif row.on_hand != row.available + row.reserved:
            yield Violation(f"{_balance(row.sku, row.on_hand, row.available, row.reserved)}")


def event_is_decision(books: Books) -> Iterator[Violation]:
    """S7: an event is its order's decision: verdict, id, bytes, and the owner coordinate in its header."""
    for order_id, events in books.outcomes.items():
        decision = books.decisions.get(order_id)
        for event in events:
            for fault in _differences(event, decision):
                yield Violation(f"{event.at}: {fault}", order_id)
    for order_id, decision in books.decisions.items():
        copies = books.created.get(order_id)
        if copies and copies[0].lines != decision.lines:
            yield Violation("decided over other lines than were ordered", order_id)


def one_fate(books: Books) -> Iterator[Violation]:
    """S8: a record left behind is an owner, another copy, or a dead letter; beyond the offset nothing has happened."""
    dead = _dead_letters(books)
    progress = books.progress
    for poison in books.poison:
        if below(poison.at, progress.inventory_before) and poison.at not in dead:
            yield Violation(f"{poison.at} holds no order ({poison.why}) and was left behind without a dead letter")
    for order_id, decision in books.decisions.items():
        if decision.owner in dead:
            yield Violation(f"{decision.owner} has a decision and a dead letter", order_id)
        elif _judgeable(decision.owner, books) and not _holds(books.created.get(order_id, ()), decision.owner):
            yield Violation(f"decided for {decision.owner}, which does not hold this order", order_id)
    for order_id, events in books.outcomes.items():
        for event in events:
            if event.source is not None and not below(event.source, progress.inventory_after):
                yield Violation(f"{event.at} answers {event.source}, which is not committed as read", order_id)


def nothing_from_nowhere(books: Books) -> Iterator[Violation]:
    """S9: what is derived names a visible event: no notification rests on a record that was never committed."""
    for order_id, rows in books.ledger.items():
        decision = books.decisions.get(order_id)
        for row in rows:
            if decision is None or row.event_id != decision.event_id:
                yield Violation(f"notified ({row.kind}) of event {row.event_id}, which does not exist", order_id)
    for order_id, records in books.sent.items():
        visible = {event.at for event in books.outcomes.get(order_id, ())}
        for record in records:
            if record.source and record.source not in visible and _judgeable(record.source, books):
                yield Violation(f"{record.at} tells of {record.source}, which was never committed", order_id)


def dead_letters_complete(books: Books) -> Iterator[Violation]:
    """S11: a dead letter names its record, carries its bytes, and (from the inventory) stands there once."""
    for letter in books.dead_letters:
        if letter.missing:
            yield Violation(f"{letter.at} lacks the headers {', '.join(letter.missing)}")
        elif letter.source is None or not letter.at.topic.startswith(f"{letter.source.topic}."):
            yield Violation(f"{letter.at} names {letter.source} as its record")
    originals = {poison.at: poison.digest for poison in books.poison}
    for source, letters in _dead_letters(books).items():
        if len(letters) > 1 and source.topic == ORDERS_CREATED.name:
            yield Violation(f"{len(letters)} dead letters of {source}", harm=Harm.DOUBLED)
        for letter in letters:
            if letter.digest is not None and originals.get(source, letter.digest) != letter.digest:
                yield Violation(f"{letter.at} does not carry the bytes of {source}")


def notified_once(books: Books) -> Iterator[Violation]:
    """S13: an event that was worked off is told once, in the right words, and its copies on the topic are one."""
    passed = books.progress.notification
    dead = _dead_letters(books)
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


def no_false_refusal(books: Books) -> Iterator[Violation]:
    """S14: an order that failed wants more of some SKU than is left. True only where nothing was restocked."""
    available = {row.sku: row.available or 0 for row in books.stock}
    for order_id, decision in books.decisions.items():
        if decision.verdict is Verdict.FAILED and all(
            available.get(sku, 0) >= wanted for sku, wanted in decision.wanted
        ):
            yield Violation("failed although every line is in stock", order_id)


def readable(books: Books) -> Iterator[Violation]:
    """S15: every record that a service wrote decodes by the schema it names."""
    for record in books.undecodable:
        yield Violation(f"{record.at}: {record.why}")


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


def all_came_through(books: Books) -> Iterator[Violation]:
    """L1: every accepted order has its outcome, status and notification in time."""
    for order in books.unfinished:
        harm = Harm.LOST if order.lacks == "outcome" else Harm.WRONG
        yield Violation(f"no {order.lacks} in time", order.order_id, harm)


def readers_not_held_up(books: Books) -> Iterator[Violation]:
    """L2: no transaction stays open: the stable end of each partition reaches its end."""
    for stall in books.stalls:
        yield Violation(
            f"readers of {stall.at.topic} {stall.at.partition} are held at {stall.at.offset} of {stall.end}"
        )


def _balance(sku: str, on_hand: int, available: int, reserved: int) -> str:
    return f"{sku}: {on_hand} on hand, but {available} available and {reserved} reserved"


def _dead_letters(books: Books) -> dict[Coordinate, list[DeadLetter]]:
    """Return the dead letters by the record that they name."""
    found: dict[Coordinate, list[DeadLetter]] = {}
    for letter in books.dead_letters:
        if letter.source is not None:
            found.setdefault(letter.source, []).append(letter)
    return found


def _differences(event: Outcome, decision: Decision | None) -> Iterator[str]:
    if decision is None:
        yield "an event without a decision"
        return
    if event.verdict is not decision.verdict:
        yield f"the decision says {decision.verdict.value}"
    if event.event_id != decision.event_id or event.header_id != decision.event_id:
        yield f"event id {event.event_id}, header {event.header_id}, but decided as {decision.event_id}"
    if event.digest != decision.digest:
        yield "its bytes are not those of the decision"
    if event.source != decision.owner:
        yield f"its header names {event.source}, the owner is {decision.owner}"


def _judgeable(at: Coordinate, books: Books) -> bool:
    """Return True if the record should be among those that were read."""
    return books.begins.get(at.spot, 0) <= at.offset < books.ends.get(at.spot, 0)


def _holds(copies: tuple[Created, ...], at: Coordinate) -> bool:
    return any(copy.at == at for copy in copies)


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


NO_FALSE_REFUSAL = Invariant(
    "S14",
    "no order failed that could have been served",
    lambda books: sum(decision.verdict is Verdict.FAILED for decision in books.decisions.values()),
    no_false_refusal,
)
"""Asked only of runs that restock nothing."""

INVARIANTS = (
    Invariant(
        "S1", "what was confirmed is on the topic, byte for byte", lambda books: len(books.created), orders_on_topic
    ),
    Invariant("S5", "exactly one event per order", lambda books: len(books.created), one_event),
    Invariant("S6", "on hand = available + reserved, never negative", lambda books: len(books.stock), stock_balance),
    Invariant("S7", "each event is its order's decision", lambda books: _size(books.outcomes), event_is_decision),
    Invariant("S8", "each record has one fate", lambda books: _size(books.created) + len(books.poison), one_fate),
    Invariant("S9", "nothing rests on what never happened", lambda books: _size(books.ledger), nothing_from_nowhere),
    Invariant("S11", "dead letters are complete", lambda books: len(books.dead_letters), dead_letters_complete),
    Invariant("S13", "each event is told once", lambda books: _size(books.outcomes), notified_once),
    Invariant("S15", "every event decodes", lambda books: _size(books.outcomes) + _size(books.sent), readable),
    Invariant("S17", "the status is the verdict", lambda books: len(books.statuses), status_is_verdict),
    Invariant("L1", "every accepted order came through in time", lambda books: len(books.created), all_came_through),
    Invariant("L2", "no open transaction holds readers up", lambda books: len(books.ends), readers_not_held_up),
)
"""Asked of every run, in this order."""


def _size(groups: Mapping[str, tuple[object, ...]]) -> int:
    return sum(map(len, groups.values()))
