"""Bring the tables up to what the topics say, after PostgreSQL was restored from a backup (docs/adr/0042).

First all is read and compared; if something stands in the way, nothing is changed. Then the changes are made in
bounded transactions that repeat without effect, so that an interrupted run is simply called again. What workers
believe, `inventory.progress`, comes last: until then they decide nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.orders import OrderCreated
from common.kafka.schema_registry import open_codec
from common.topics import (
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    NOTIFICATION,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
    dead_letter_topic,
)
from deploy.rebuild.config import RebuildSettings
from deploy.rebuild.events import DecisionRow, SentRow, decision_row, sent_row
from deploy.rebuild.store import Store, opened, units_reserved
from deploy.rebuild.topics import Report, Topics
from onceloop.dead_letter import source_of
from onceloop.errors import Undecodable
from onceloop.kafka.span_reader import Span
from onceloop.records import InputRecord, Partition

R = TypeVar("R", DecisionRow, SentRow)

ROWS_MAX = 500
"""In one transaction."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Orders that the group left behind, and that have neither decision nor event nor dead letter."""

    partition: str
    committed: int
    first: int
    orders: int


@dataclass(slots=True)
class Rebuilt:
    """What was missing, and was brought back unless something stands in the way or it was a dry run.

    `units`: stock that the missing decisions hold. `short`: SKU -> units that they hold and the shelf lacks; with one
    of these nothing is changed. `differing`: decisions that stand and are not those of their events.
    """

    reserved: int = 0
    failed: int = 0
    units: dict[str, int] = field(default_factory=dict)
    notifications: int = 0
    progress: dict[str, int] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    unanswered: list[Unanswered] = field(default_factory=list)
    differing: int = 0
    unreadable: int = 0
    changed: bool = False

    @property
    def missing(self) -> int:
        """Return how many decisions were missing."""
        return self.reserved + self.failed


def rebuild(settings: RebuildSettings, *, dry_run: bool, report: Report) -> Rebuilt:
    """Compare, and bring back what is missing; return what that was.

    Raises ReportedError if the workers of inventory or notification are alive, or a store does not do as asked.
    """
    codec = open_codec(settings, (ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED, NOTIFICATION_SENT))
    topics = Topics(settings, report)
    topics.await_no_members((INVENTORY, NOTIFICATION))
    with opened(settings) as store:
        return _Rebuild(settings, codec, topics, store).run(dry_run=dry_run)


class _Rebuild:
    """One run: what was found so far."""

    def __init__(self, settings: RebuildSettings, codec: Codec, topics: Topics, store: Store) -> None:
        self._settings = settings
        self._codec = codec
        self._topics = topics
        self._store = store
        self._kinds = {
            INVENTORY_RESERVED.within(settings.namespace): InventoryReserved,
            INVENTORY_FAILED.within(settings.namespace): InventoryFailed,
        }
        self._found = Rebuilt()
        self._recoverable: set[str] = set()  # orders whose decision is missing, but stands in an event

    def run(self, *, dry_run: bool) -> Rebuilt:
        found = self._found
        self._compare_decisions()
        progress = self._compare_progress()
        change = not dry_run and not found.short
        if change:
            self._record_decisions()
        self._compare_ledger(record=change)
        if change:
            self._store.note(progress)
        found.changed = change and bool(found.missing or found.notifications or found.progress)
        return found

    def _compare_decisions(self) -> None:
        units: Counter[str] = Counter()
        for rows in self._decisions(count=True):
            known = self._store.events({row.order_id for row in rows})
            missing = {
                row.order_id: row for row in rows if row.order_id not in known and row.order_id not in self._recoverable
            }
            self._found.differing += sum(known.get(row.order_id, row.event) != row.event for row in rows)
            self._found.reserved += sum(row.reserved for row in missing.values())
            self._found.failed += sum(not row.reserved for row in missing.values())
            units += units_reserved(iter(missing.values()))
            self._recoverable.update(missing)
        available = self._store.available()
        self._found.units = dict(sorted(units.items()))
        self._found.short = {
            sku: number - available.get(sku, 0)
            for sku, number in sorted(units.items())
            if number > available.get(sku, 0)
        }

    def _record_decisions(self) -> None:
        if self._recoverable:
            for rows in self._decisions(count=False):
                for part in _parts(
                    list({row.order_id: row for row in rows if row.order_id in self._recoverable}.values())
                ):
                    self._store.record(part)

    def _compare_ledger(self, *, record: bool) -> None:
        for records in self._topics.read(NOTIFICATION_SENT.name, self._topics.spans(NOTIFICATION_SENT)):
            missing = self._store.unsent(list(self._sent(records)))
            self._found.notifications += len(missing)
            for part in _parts(missing) if record else ():
                self._store.record_sent(part, mail_domain=self._settings.mail_domain)

    def _compare_progress(self) -> dict[Partition, int]:
        """Return up to where the inventory has answered, for each partition where that is further than noted."""
        noted, committed = self._store.noted(), self._topics.committed(INVENTORY, ORDERS_CREATED)
        spans = {
            at: Span(max(span.reached, noted.get(at, 0)), min(span.end, committed.get(at, 0)))
            for at, span in self._topics.spans(ORDERS_CREATED).items()
        }
        left_behind = self._left_behind(spans)
        answered = {at: left_behind[at][0] if at in left_behind else offset for at, offset in committed.items()}
        further = {at: offset for at, offset in answered.items() if offset > noted.get(at, 0)}
        self._found.progress = {_named(at): offset for at, offset in sorted(further.items())}
        self._found.unanswered = [
            Unanswered(_named(at), committed[at], offsets[0], len(offsets))
            for at, offsets in sorted(left_behind.items())
        ]
        return further

    def _left_behind(self, spans: Mapping[Partition, Span]) -> dict[Partition, list[int]]:
        """Return the offsets of orders without an answer."""
        found: dict[Partition, list[int]] = {}
        letters: set[tuple[Partition, int]] | None = None
        for records in self._topics.read(ORDERS_CREATED.name, spans):
            orders = {(record.partition, record.offset): order_id for record, order_id in self._orders(records)}
            known = self._store.events(set(orders.values())).keys() | self._recoverable
            if suspects := [at for at, order_id in orders.items() if order_id not in known]:
                letters = self._dead_letters() if letters is None else letters
                for partition, offset in suspects:
                    if (partition, offset) not in letters:
                        found.setdefault(partition, []).append(offset)
        return found

    def _dead_letters(self) -> set[tuple[Partition, int]]:
        topic = dead_letter_topic(ORDERS_CREATED, INVENTORY)
        sources = (
            source_of(record.headers())
            for records in self._topics.read(topic.name, self._topics.spans(topic))
            for record in records
        )
        return {source for source in sources if source is not None}

    def _decisions(self, *, count: bool) -> Iterator[list[DecisionRow]]:
        """Yield the decisions that visible events report; `count` those that report none."""
        spans = self._topics.spans(INVENTORY_RESERVED, INVENTORY_FAILED)
        for records in self._topics.read("outcomes", spans):
            rows = []
            for record in records:
                try:
                    rows.append(decision_row(self._codec, self._kinds[record.partition.topic], record))
                except Undecodable:
                    self._found.unreadable += count
            yield rows

    def _sent(self, records: Iterable[InputRecord]) -> Iterator[SentRow]:
        for record in records:
            try:
                yield sent_row(self._codec, record)
            except Undecodable:
                self._found.unreadable += 1

    def _orders(self, records: Iterable[InputRecord]) -> Iterator[tuple[InputRecord, str]]:
        """Yield those that hold an order; the others are dead letters."""
        for record in records:
            try:
                yield record, self._codec.decode(OrderCreated, record.value).order_id
            except Undecodable:
                continue


def _parts(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    for first in range(0, len(rows), ROWS_MAX):
        yield rows[first : first + ROWS_MAX]


def _named(at: Partition) -> str:
    return f"{at.topic}[{at.number}]"
