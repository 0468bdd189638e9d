"""Fold the topics and compare with the tables that Kafka Connect copies them into, row by row.

A sink writes at least once and in order per partition, so a table is right if each row is the last record of its key.
Records may keep coming: what was on the topics when the comparison began must be there, or a later state of it; nothing
may be there that no record says. The tables are read before the topics each time, so a row's record has been read.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

from chaos.checker.avro import Registry, UnreadableError
from chaos.checker.cluster import Cluster
from chaos.checker.collector import Record
from chaos.checker.config import CheckerSettings
from chaos.checker.tables import TableReader
from chaos.checker.terms import Coordinate, Offsets, below
from chaos.checker.topics import TopicReader
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, MINUTE_VOLUMES, Topic

READ_SECONDS = 30.0
TURN_SECONDS = 0.25

Key = str | int
Row = tuple[Any, ...]


class Copied(NamedTuple):
    """A topic, and the table that it is copied into. The key is the first of `fields`; times are milliseconds."""

    topic: Topic
    event: str
    table: str
    fields: tuple[str, ...]
    statement: LiteralString
    """Selects the fields as the event has them, in their order."""


COPIED = (
    Copied(
        INVENTORY_RESERVED,
        "InventoryReserved",
        "analytics.reserved",
        ("order_id", "event_id", "user_id", "placed_at", "decided_at"),
        """
        SELECT order_id::text, event_id::text, user_id,
            (extract(epoch FROM placed_at) * 1000)::bigint, (extract(epoch FROM decided_at) * 1000)::bigint
        FROM analytics.reserved
        """,
    ),
    Copied(
        INVENTORY_FAILED,
        "InventoryFailed",
        "analytics.failed",
        ("order_id", "event_id", "user_id", "reason", "sku", "requested", "available", "placed_at", "decided_at"),
        """
        SELECT order_id::text, event_id::text, user_id, reason, sku, requested, available,
            (extract(epoch FROM placed_at) * 1000)::bigint, (extract(epoch FROM decided_at) * 1000)::bigint
        FROM analytics.failed
        """,
    ),
    Copied(
        MINUTE_VOLUMES,
        "MinuteVolume",
        "analytics.order_volume",
        ("minute", "orders", "reserved", "failed", "units", "late", "revision"),
        """
        SELECT (extract(epoch FROM minute) * 1000)::bigint, orders, reserved, failed, units, late, revision
        FROM analytics.order_volume
        """,
    ),
)


class State(NamedTuple):
    """What a key was said to be, and by which record."""

    at: Coordinate
    row: Row


class Difference(NamedTuple):
    """One row that is not as the topic says."""

    key: Key
    what: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table against its topic. `differences` are in the order of the keys."""

    table: str
    topic: str
    keys: int
    rows: int
    differences: tuple[Difference, ...]


def compare_sinks(
    settings: CheckerSettings,
    *,
    wait_seconds: float,
    report: Callable[[tuple[Comparison, ...]], None] = lambda _: None,
) -> tuple[Comparison, ...]:
    """Compare until nothing differs, or for so long; return the last comparison.

    Raises StoreDownError if broker, registry or database does not answer.
    """
    cluster, tables = Cluster(settings), TableReader(settings)
    topics = [copied.topic for copied in COPIED]
    begins, wanted = cluster.begins(topics), cluster.ends(topics)
    folds = {copied.topic.name: Fold(copied, Registry(settings.registry_url)) for copied in COPIED}
    deadline = time.monotonic() + wait_seconds
    with TopicReader(cluster, begins, lambda record: folds[record.at.topic].take(record)) as reader:
        while True:
            rows = {copied.table: {row[0]: row for row in tables.select(copied.statement)} for copied in COPIED}
            reader.read_to(cluster.ends(topics), seconds=READ_SECONDS)
            compared = tuple(
                folds[copied.topic.name].compare(rows[copied.table], wanted=wanted, begins=begins) for copied in COPIED
            )
            report(compared)
            if not any(each.differences for each in compared) or time.monotonic() > deadline:
                return compared
            time.sleep(TURN_SECONDS)


class Fold:
    """The records of one topic by key, each with all its states: a later one replaces an earlier."""

    def __init__(self, copied: Copied, registry: Registry) -> None:
        self._copied, self._registry = copied, registry
        self._states: dict[Key, tuple[State, ...]] = {}

    def take(self, record: Record) -> None:
        """Keep what the record says of its key; what nobody can read, no sink copies."""
        try:
            event = self._registry.decode(record.value, self._copied.event)
        except UnreadableError:
            return
        row = tuple(event[field] for field in self._copied.fields)
        self._states[row[0]] = (*self._states.get(row[0], ()), State(record.at, row))

    def compare(self, table: Mapping[Key, Row], *, wanted: Offsets, begins: Offsets) -> Comparison:
        """Compare with the rows of the table. `wanted`: whatever lies below must be there."""
        found = (*self._absent_or_other(table, wanted), *self._untold(table, begins))
        return Comparison(
            self._copied.table,
            self._copied.topic.name,
            keys=len(self._states),
            rows=len(table),
            differences=tuple(sorted(found, key=lambda each: str(each.key))),
        )

    def _absent_or_other(self, table: Mapping[Key, Row], wanted: Offsets) -> Iterator[Difference]:
        for key, states in self._states.items():
            due = [at for at, state in enumerate(states) if below(state.at, wanted)]
            row = table.get(key)
            if row is None:
                if due:
                    yield Difference(key, f"is not in the table; {states[due[-1]].at} has it")
            elif row not in [state.row for state in states[due[-1] if due else 0 :]]:
                yield Difference(key, self._other(row, states[due[-1] if due else -1]))

    def _other(self, row: Row, state: State) -> str:
        pairs = zip(self._copied.fields, row, state.row, strict=True)
        told = ", ".join(f"{field} {there!r} instead of {due!r}" for field, there, due in pairs if there != due)
        return f"has {told}, as {state.at} says"

    def _untold(self, table: Mapping[Key, Row], begins: Offsets) -> Iterator[Difference]:
        """Yield rows without a record, unless the topic no longer has its first ones."""
        if any(begin for spot, begin in begins.items() if spot.topic == self._copied.topic.name):
            return
        for key in table.keys() - self._states.keys():
            yield Difference(key, f"is in the table, and {self._copied.topic.name} has no record of it")
