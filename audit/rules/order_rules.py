"""Rules over orders, their decisions and their events: S1, S5, S7, S8, S10, S11, S15, L1, L2. Pure."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from audit.books import Books, Created, DeadLetter, Decision, Key, Notes, Outcome, Verdict
from audit.rules.retention import hidden, order_is_trimmed
from audit.rules.rule import Harm, Violation
from audit.terms import Coordinate, Spot, below
from audit.testimony import Kind
from common.topics import DEAD_LETTER_TOPICS, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED


def orders_on_topic(books: Books) -> Iterator[Violation]:
    """S1: a confirmed order is on `orders.created`; all copies carry the bytes that are stored with its key.

    The row of a key stands for the request and its user; the record's key and headers repeat its value.
    """
    for order_id, copies in books.created.items():
        if any(copy.digest != copies[0].digest for copy in copies):
            yield Violation(f"{len(copies)} copies on {ORDERS_CREATED.name} differ", order_id)
    letters = {letter.value for letter in books.dead_letters}
    for key in books.keys:
        found = books.created.get(key.order_id)
        if found and found[0].digest != key.digest:
            yield Violation("the record is not what is stored with its key", key.order_id)
        elif found and (found[0].user != key.user or found[0].request not in {b"", key.request}):
            yield Violation("the row of its key is another user's, or stands for another request", key.order_id)
        elif not found and key.acknowledged and not _may_be_gone(key, letters, books):
            yield Violation(f"confirmed to the client, but not on {ORDERS_CREATED.name}", key.order_id, Harm.LOST)
    yield from misfits(books, ORDERS_CREATED.name)


def _may_be_gone(key: Key, letters: AbstractSet[bytes], books: Books) -> bool:
    """Return True if a transaction hides whether the order is there, or its trace shows that retention took it."""
    return books.unread(ORDERS_CREATED.name) or order_is_trimmed(key.order_id, books) or key.digest in letters


def one_event(books: Books) -> Iterator[Violation]:
    """S5: an order whose record the inventory left behind has exactly one event; no order ever has two."""
    dead = dead_letters_by_source(books)
    gone = {order_id for order_id, _ in hidden(books)}
    passed = books.progress.inventory_before
    for order_id, copies in books.created.items():
        if order_id in books.outcomes or order_id in gone or _event_is_out_of_sight(order_id, books):
            continue
        if any(below(copy.at, passed) and copy.at not in dead for copy in copies):
            yield Violation("left behind by the inventory without an event", order_id, Harm.LOST)
    for order_id, decision in books.decisions.items():
        if order_id in books.created or order_id in books.outcomes or order_id in gone or decision.owner in dead:
            continue
        if order_is_trimmed(order_id, books) and below(decision.owner, passed):
            yield Violation("decided, but without an event, and retention did not take it", order_id, Harm.LOST)
    for order_id, events in books.outcomes.items():
        if len(events) > 1:
            yield Violation(f"{len(events)} events instead of one", order_id, Harm.DOUBLED)


def _event_is_out_of_sight(order_id: str, books: Books) -> bool:
    """Return True if the order is decided and an open transaction hides whether its event is there: L2 names that."""
    decision = books.decisions.get(order_id)
    return decision is not None and books.unread(decision.verdict.value)


def event_is_decision(books: Books) -> Iterator[Violation]:
    """S7: an event is its order's decision: verdict, id, bytes, and the owner coordinate in its header.

    What the row derives of the event, and the event of the order, is equal; key and headers repeat its value. The lines
    of a reservation are those of the order or a part of them, and row and event name the same.
    """
    for order_id, events in books.outcomes.items():
        decision = books.decisions.get(order_id)
        copies = books.created.get(order_id)
        for event in events:
            for fault in _differences(event, decision):
                yield Violation(f"{event.at}: {fault}", order_id)
            if copies and (what := _other_order(event, copies[0])):
                yield Violation(f"{event.at}: another {what} than in the order", order_id)
    yield from misfits(books, INVENTORY_RESERVED.name, INVENTORY_FAILED.name)
    for order_id, decision in books.decisions.items():
        copies = books.created.get(order_id)
        if copies and copies[0].lines != decision.lines and (what := _beyond(copies[0], decision)):
            yield Violation(f"decided over other lines than were ordered: {what}", order_id)
    for user, counted, highest in books.turns:
        yield Violation(f"{counted} decisions count as {user}'s, the highest has turn {highest}")


def _beyond(order: Created, decision: Decision) -> str:
    """Return what makes these lines impossible for the order, or an empty text: a reservation may hold part of it."""
    if decision.verdict is Verdict.FAILED:
        return "a failed order keeps its lines"
    held, asked = dict(decision.row_lines), dict(order.asked)
    if not held or len(held) != len(decision.row_lines):
        return "no line is held, or one twice"
    beyond = (sku for sku, quantity in held.items() if not 1 <= quantity <= asked.get(sku, 0))
    return next((f"{held[sku]} of {sku} held, {asked.get(sku, 0)} ordered" for sku in beyond), "")


def misfits(books: Books, *topics: str) -> Iterator[Violation]:
    """Yield the records of these topics whose key or headers say something else than their value."""
    for misfit in books.misfits:
        if misfit.at.topic in topics:
            yield Violation(f"{misfit.at}: {misfit.what}", misfit.order_id)


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
    if books.notes is not None:
        yield from _other_than_noted(books.notes)


def _other_than_noted(notes: Notes) -> Iterator[Violation]:
    """Yield what the inventory's tables note of its topic that the topic cannot have been."""
    for spot, offset in notes.answered.items():
        if offset > notes.committed.get(spot, 0):
            stands = notes.committed.get(spot, "nothing")
            noted = f"inventory.progress has {spot.topic} {spot.partition} answered to {offset}"
            yield Violation(f"{noted}, the group has committed {stands}")
    for spot, offset in notes.starts.items():
        if offset > notes.ends.get(spot, -1):
            noted = f"inventory.start has {spot.topic} {spot.partition} begun at {offset}"
            yield Violation(f"{noted}, it ends at {notes.ends.get(spot, 'no offset')}")
    for topic, topic_id in notes.topic_ids.items():
        if (now := notes.topic_ids_now.get(topic)) != topic_id:
            yield Violation(f"inventory.input_topic has id {topic_id} for {topic}, the topic's is {now or 'none'}")


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
    values, headers = _values_of_sources(books), {poison.at: poison.headers for poison in books.poison}
    for source, letters in dead_letters_by_source(books).items():
        if len(letters) > 1 and source.topic == ORDERS_CREATED.name:
            yield Violation(f"{len(letters)} dead letters of {source}", harm=Harm.DOUBLED)
        for letter in letters:
            if letter.digest is not None and originals.get(source, letter.digest) != letter.digest:
                yield Violation(f"{letter.at} does not carry the bytes of {source}")
            elif letter.digest is not None and (
                values.get(source, letter.value) != letter.value
                or headers.get(source, letter.headers) != letter.headers
            ):
                yield Violation(f"{letter.at} does not carry the value or the headers of {source}")
    yield from misfits(books, *(topic.name for topic in DEAD_LETTER_TOPICS))
    yield from _other_than_planted(books)


def _values_of_sources(books: Books) -> dict[Coordinate, bytes]:
    """Return what stands for the values of the orders and events that dead letters name."""
    wanted = {letter.source for letter in books.dead_letters}
    if not wanted:
        return {}
    records: tuple[Iterable[Created | Outcome], ...] = (*books.created.values(), *books.outcomes.values())
    return {record.at: record.digest for group in records for record in group if record.at in wanted}


def _other_than_planted(books: Books) -> Iterator[Violation]:
    """Yield dead letters of what was not planted, and planted poison that was taken for an order."""
    testimony = books.testimony
    if testimony is None or not testimony.written:
        return
    dead = dead_letters_by_source(books)
    originals = {poison.at: poison.digest for poison in books.poison}
    planted = {record.at for record in testimony.written if record.kind is Kind.POISON and record.at is not None}
    perhaps = {record.digest for record in testimony.written if record.kind is Kind.POISON and record.at is None}
    for source in dead:
        if not testimony.complete or source.topic != ORDERS_CREATED.name or source in planted:
            continue
        if source not in originals or originals[source].hex() not in perhaps:
            yield Violation(f"a dead letter of {source}, where no poison was planted", harm=Harm.LOST)
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
            f"readers of {stall.at.topic} {stall.at.partition} are held at {stall.at.offset} of {stall.end};"
            " what lies behind is not judged"
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
    if decision.reason != (event.lacking and event.lacking.reason):
        yield f"reason {event.lacking and event.lacking.reason}, but decided for {decision.reason}"
    if event.decided_at != decision.decided_at:
        yield f"decided at {event.decided_at}, but the decision says {decision.decided_at}"
    if event.lines != decision.lines:
        yield "other lines than were decided over"
    if decision.user is not None and decision.user != event.user:
        yield f"an order of {event.user}, but the decision counts as {decision.user}'s"


def _other_order(event: Outcome, order: Created) -> str:
    """Return what an event says otherwise of its order, or an empty text."""
    if event.user != order.user:
        return "user"
    return "time of placing" if event.placed_at != order.placed_at else ""


def judgeable(at: Coordinate, books: Books) -> bool:
    """Return True if the record should be among those that were read."""
    read_to = next((stall.at.offset for stall in books.stalls if stall.at.spot == at.spot), books.ends.get(at.spot, 0))
    return books.begins.get(at.spot, 0) <= at.offset < read_to


def _holds(copies: tuple[Created, ...], at: Coordinate) -> bool:
    return any(copy.at == at for copy in copies)
