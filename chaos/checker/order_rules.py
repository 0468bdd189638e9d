"""Rules over orders, their decisions and their events: S1, S5, S7, S8, S10, S11, S15, L1, L2. Pure."""

from collections.abc import Iterator

from chaos.checker.books import Books, Created, DeadLetter, Decision, Outcome, Verdict
from chaos.checker.rule import Harm, Violation
from chaos.checker.terms import Coordinate, Spot, below
from chaos.checker.testimony import Kind
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED


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
    dead = dead_letters_by_source(books)
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
    dead = dead_letters_by_source(books)
    progress = books.progress
    for poison in books.poison:
        if below(poison.at, progress.inventory_before) and poison.at not in dead:
            yield Violation(f"{poison.at} holds no order ({poison.why}) and was left behind without a dead letter")
    for order_id, decision in books.decisions.items():
        if decision.owner in dead:
            yield Violation(f"{decision.owner} has a decision and a dead letter", order_id)
        elif judgeable(decision.owner, books) and not _holds(books.created.get(order_id, ()), decision.owner):
            yield Violation(f"decided for {decision.owner}, which does not hold this order", order_id)
    for order_id, events in books.outcomes.items():
        for event in events:
            if event.source is not None and not below(event.source, progress.inventory_after):
                yield Violation(f"{event.at} answers {event.source}, which is not committed as read", order_id)


def events_in_owner_order(books: Books) -> Iterator[Violation]:
    """S10: events that answer one partition stand, on each partition of their topic, in the order of their records."""
    last: dict[tuple[Verdict, int, Spot], Outcome] = {}
    for event in sorted((group[0] for group in books.outcomes.values()), key=lambda event: event.at):
        if event.source is None:
            continue
        stream = (event.verdict, event.partition, event.source.spot)
        before = last.get(stream)
        if before is not None and before.source is not None and before.source.offset > event.source.offset:
            yield Violation(f"{event.at} answers {event.source}, {before.at} before it {before.source}", event.order_id)
        last[stream] = event


def dead_letters_complete(books: Books) -> Iterator[Violation]:
    """S11: a dead letter names its record, carries its bytes, and (from the inventory) stands there once.

    Where it is known what poison was written, there are dead letters of exactly that.
    """
    for letter in books.dead_letters:
        if letter.missing:
            yield Violation(f"{letter.at} lacks the headers {', '.join(letter.missing)}")
        elif letter.source is None or not letter.at.topic.startswith(f"{letter.source.topic}."):
            yield Violation(f"{letter.at} names {letter.source} as its record")
    originals = {poison.at: poison.digest for poison in books.poison}
    for source, letters in dead_letters_by_source(books).items():
        if len(letters) > 1 and source.topic == ORDERS_CREATED.name:
            yield Violation(f"{len(letters)} dead letters of {source}", harm=Harm.DOUBLED)
        for letter in letters:
            if letter.digest is not None and originals.get(source, letter.digest) != letter.digest:
                yield Violation(f"{letter.at} does not carry the bytes of {source}")
    yield from _other_than_planted(books)


def _other_than_planted(books: Books) -> Iterator[Violation]:
    """Yield dead letters of what nobody planted, and planted poison that was taken for an order."""
    told = books.testimony
    if told is None or not told.written:
        return
    dead = dead_letters_by_source(books)
    originals = {poison.at: poison.digest for poison in books.poison}
    planted = {record.at for record in told.written if record.kind is Kind.POISON and record.at is not None}
    perhaps = {record.digest for record in told.written if record.kind is Kind.POISON and record.at is None}
    for source in dead:
        if not told.complete or source.topic != ORDERS_CREATED.name or source in planted:
            continue
        if source not in originals or originals[source].hex() not in perhaps:
            yield Violation(f"a dead letter of {source}, where nobody planted poison", harm=Harm.LOST)
    for at in sorted(planted - dead.keys() - originals.keys()):
        if below(at, books.progress.inventory_before) and judgeable(at, books):
            yield Violation(f"{at} was planted as poison, and was taken for an order")


def readable(books: Books) -> Iterator[Violation]:
    """S15: every record that a service wrote decodes by the schema it names."""
    for record in books.undecodable:
        yield Violation(f"{record.at}: {record.why}")


def all_came_through(books: Books) -> Iterator[Violation]:
    """L1: every accepted order has its outcome, status and notification in time."""
    for order in books.unfinished:
        harm = Harm.LOST if order.lacks == "outcome" or order.lost else Harm.WRONG
        why = f": {order.why}" if order.why else ""
        yield Violation(f"no {order.lacks}{'' if order.lost else ' in time'}{why}", order.order_id, harm)


def readers_not_held_up(books: Books) -> Iterator[Violation]:
    """L2: no transaction stays open: the stable end of each partition reaches its end."""
    for stall in books.stalls:
        yield Violation(
            f"readers of {stall.at.topic} {stall.at.partition} are held at {stall.at.offset} of {stall.end}"
        )


def dead_letters_by_source(books: Books) -> dict[Coordinate, list[DeadLetter]]:
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


def judgeable(at: Coordinate, books: Books) -> bool:
    """Return True if the record should be among those that were read."""
    return books.begins.get(at.spot, 0) <= at.offset < books.ends.get(at.spot, 0)


def _holds(copies: tuple[Created, ...], at: Coordinate) -> bool:
    return any(copy.at == at for copy in copies)
