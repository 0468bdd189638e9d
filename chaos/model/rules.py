"""Judge a world at rest by the rules S5-S8, S11, L1 and L2 of faults.md. Shares nothing with what it judges."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chaos.model.broker import Entry, Fate
from chaos.model.scenario import Kind, codec
from chaos.model.world import DEAD_LETTERS, World
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.orders import OrderCreated
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from inventory_service.io.decision_store import NewDecision
from onceloop.records import Partition

Coordinate = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, in a sentence."""

    rule: str
    what: str


def violations(world: World, *, done: bool) -> list[Violation]:
    """Return what is broken. `done`: everything was worked off in time."""
    found = [Violation("L3", f"a worker died of an unforeseen error: {world.died}")] if world.died else []
    rules: tuple[tuple[str, Callable[[_Books], Iterator[str]]], ...] = (
        ("S5", _one_event),
        ("S6", _stock_balance),
        ("S7", _event_is_decision),
        ("S8", _one_fate),
        ("S11", _dead_letters),
        ("L1", _all_came_through),
        ("L2", _nothing_open),
    )
    books = _Books(world, done)
    return found + [Violation(rule, what) for rule, broken in rules for what in broken(books)]


class _Books:
    """What stands on the topics and in the tables, sorted for the rules."""

    def __init__(self, world: World, done: bool) -> None:  # noqa: FBT001 - a fact of the run
        self.world = world
        self.done = done
        self.events = [
            (topic, entry)
            for topic in (INVENTORY_RESERVED.name, INVENTORY_FAILED.name)
            for _, entry in world.cluster.visible(topic)
        ]
        self.answered = Counter(origin(entry, "origin") for _, entry in self.events)
        self.letters = [entry for _, entry in world.cluster.visible(DEAD_LETTERS)]
        self.lettered = Counter(origin(letter, "dlq") for letter in self.letters)
        self.inputs: dict[Coordinate, tuple[Kind, str, Entry | None]] = {}
        ends: Counter[Partition] = Counter()
        for one in world.scenario.inputs:
            at = (one.partition.topic, one.partition.number, ends[one.partition])
            self.inputs[at] = (one.kind, one.order_id, one.entry)
            ends[one.partition] += 1
        decided = [row.decision for row in world.tables.decisions.values()]
        self.order_of = {decision.event_id.encode(): decision.order_id for decision in decided}

    def passed(self, at: Coordinate) -> bool:
        """Return True if the group has left this record behind."""
        topic, number, offset = at
        return offset < self.world.cluster.group.committed[Partition(topic, number)]


def origin(entry: Entry, prefix: str) -> Coordinate:
    """Return the input coordinate that headers name."""
    headers = dict(entry.headers)
    topic, number, offset = (headers[f"{prefix}_{part}"] or b"" for part in ("topic", "partition", "offset"))
    return topic.decode(), int(number), int(offset)


def _one_event(books: _Books) -> Iterator[str]:
    """S5: each order with a valid record that was left behind has exactly one visible event."""
    events = Counter(books.inputs[at][1] for at in books.answered.elements() if at in books.inputs)
    for order_id in sorted({order_id for kind, order_id, _ in books.inputs.values() if kind is Kind.ORDER}):
        passed = any(books.passed(at) for at, one in books.inputs.items() if one[1] == order_id)
        if events[order_id] > 1 or (passed and not events[order_id]):
            yield f"order {order_id} has {events[order_id]} events"


def _stock_balance(books: _Books) -> Iterator[str]:
    """S6: on hand = available + reserved, never negative, after every commit."""
    if books.world.tables.unbalanced:
        yield books.world.tables.unbalanced


def _event_is_decision(books: _Books) -> Iterator[str]:
    """S7: an event is its order's decision: topic, id, bytes, and the owner's coordinate in its headers."""
    for topic, entry in books.events:
        at = origin(entry, "origin")
        _, order_id, _ = books.inputs.get(at, (Kind.HOLE, "", None))
        row = books.world.tables.decisions.get(order_id)
        if row is None:
            yield f"the event of {at} has no decision"
            continue
        decision = row.decision
        expected = INVENTORY_RESERVED.name if decision.reserved else INVENTORY_FAILED.name
        owner = (decision.owner.partition.topic, decision.owner.partition.number, decision.owner.offset)
        event_id = dict(entry.headers).get("ce_id")
        if (topic, entry.value, event_id, at) != (expected, decision.event, decision.event_id.encode(), owner):
            yield f"the event of {at} is not the decision on {order_id}"
        if not _agree(row, *books.inputs[at][2:]):
            yield f"the decision on {order_id} holds {row.lines}, which its event or its order does not"


def _agree(row: NewDecision, ordered: Entry | None) -> bool:
    """Return True if the event names the row's lines, and the order asks for them; a reservation may hold a part."""
    if ordered is None:
        return False
    order = codec().decode(OrderCreated, ordered.value)
    if not row.decision.reserved:
        return tuple(row.lines) == order.lines == codec().decode(InventoryFailed, row.decision.event).lines
    asked, reserved = dict(order.lines), codec().decode(InventoryReserved, row.decision.event).lines
    held_is_asked = all(1 <= quantity <= asked.get(sku, 0) for sku, quantity in row.lines)
    return bool(row.lines) and tuple(row.lines) == reserved and held_is_asked


def _one_fate(books: _Books) -> Iterator[str]:
    """S8: a record left behind is an owner with its event, another copy, or a dead letter; beyond that, nothing."""
    owners = {row.decision.owner: row.decision.order_id for row in books.world.tables.decisions.values()}
    owned = {(owner.partition.topic, owner.partition.number, owner.offset): order for owner, order in owners.items()}
    for at, (kind, order_id, _) in books.inputs.items():
        events, letters = books.answered[at], books.lettered[at]
        if not books.passed(at):
            expected = (0, 0)
        elif kind in {Kind.UNDECODABLE, Kind.REJECTED}:
            expected = (0, 1)
        else:
            expected = (int(owned.get(at) == order_id and kind is Kind.ORDER), 0)
        if (events, letters) != expected:
            yield f"{at} ({kind.name.lower()}) has {events} events and {letters} dead letters instead of {expected}"


def _dead_letters(books: _Books) -> Iterator[str]:
    """S11: the dead letters are the planted poison: once each, with the original bytes and complete headers."""
    for at, times in books.lettered.items():
        if times > 1:
            yield f"{times} dead letters of {at}"
    for letter in books.letters:
        at = origin(letter, "dlq")
        kind, _, entry = books.inputs.get(at, (Kind.HOLE, "", None))
        if entry is None or kind is Kind.ORDER:
            yield f"a dead letter of {at}, which is no poison"
        elif (letter.key, letter.value) != (entry.key, entry.value):
            yield f"the dead letter of {at} has other bytes"
        if not {"dlq_version", "dlq_reason", "dlq_error_class"} <= dict(letter.headers).keys():
            yield f"the dead letter of {at} lacks headers"


def _all_came_through(books: _Books) -> Iterator[str]:
    """L1: once it is calm, everything accepted is worked off in a bounded number of steps, and nothing was skipped."""
    if not books.done:
        committed = {one.number: offset for one, offset in books.world.cluster.group.committed.items()}
        yield f"not everything came through; committed {committed} of {len(books.inputs)} inputs"


def _nothing_open(books: _Books) -> Iterator[str]:
    """L2: no transaction is left open to hold readers up."""
    for partition, log in books.world.cluster.broker.logs.items():
        if any(entry is not None and entry.fate is Fate.OPEN for entry in log.entries):
            yield f"{partition} has an open transaction"
