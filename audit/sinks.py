"""Fold the topics and compare with the tables that Kafka Connect copies them into, row by row.

A sink writes at least once and in order per partition, so a table is right if each row is the last record of its key.
Records may keep coming: what was on the topics when the comparison began must be there, or a later state of it; nothing
may be there that no record says. The tables are read before the topics each time, so a row's record has been read.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple

from audit.config import CheckerSettings
from audit.errors import StoreDownError
from audit.readers.avro import Registry, UnreadableError
from audit.readers.cluster import Cluster
from audit.readers.collector import Record, texts
from audit.readers.tables import TableReader
from audit.readers.topics import TopicReader
from audit.terms import Coordinate, Offsets, below
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, MINUTE_VOLUMES, SINKS, Topic

READ_SECONDS = 30.0
TURN_SECONDS = 0.25
ERROR_HEADERS = "__connect.errors."

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
    """One row that is not as the topic says. `at`: the record that it should be as, if there is one."""

    key: str
    what: str
    at: Coordinate | None


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
    """Compare until nothing differs, or for so long; return the last comparison, with what became of its records.

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
            if not any(each.differences for each in compared):
                return compared
            if time.monotonic() > deadline:
                dead_letters = _dead_letters(cluster)
                return tuple(_explained(each, dead_letters) for each in compared)
            time.sleep(TURN_SECONDS)


class Fold:
    """The records of one topic by key, each with all its states: a later one replaces an earlier."""

    def __init__(self, copied: Copied, registry: Registry) -> None:
        self._copied, self._registry = copied, registry
        self._states: dict[Key, tuple[State, ...]] = {}

    def take(self, record: Record) -> None:
        """Keep what the record says of its key; what cannot be read, no sink copies."""
        try:
            event = self._registry.decode(record.value, self._copied.event)
        except UnreadableError:
            return
        row = tuple(event[field] for field in self._copied.fields)
        self._states[row[0]] = (*self._states.get(row[0], ()), State(record.at, row))

    def compare(self, table: Mapping[Key, Row], *, wanted: Offsets, begins: Offsets) -> Comparison:
        """Compare with the rows of the table. `wanted`: whatever lies below must be there."""
        found = (*self._absent_or_other(table, wanted), *self._without_record(table, begins))
        return Comparison(
            self._copied.table,
            self._copied.topic.name,
            keys=len(self._states),
            rows=len(table),
            differences=tuple(sorted(found, key=lambda each: each.key)),
        )

    def _absent_or_other(self, table: Mapping[Key, Row], wanted: Offsets) -> Iterator[Difference]:
        for key, states in self._states.items():
            due = [at for at, state in enumerate(states) if below(state.at, wanted)]
            row = table.get(key)
            if row is None:
                if due:
                    at = states[due[-1]].at
                    yield Difference(_name(key), f"is not in the table; {at} has it", at)
            elif row not in [state.row for state in states[due[-1] if due else 0 :]]:
                state = states[due[-1] if due else -1]
                yield Difference(_name(key), self._other(row, state), state.at)

    def _other(self, row: Row, state: State) -> str:
        pairs = zip(self._copied.fields, row, state.row, strict=True)
        differing = ", ".join(f"{field} {there!r} instead of {due!r}" for field, there, due in pairs if there != due)
        return f"has {differing}, as {state.at} says"

    def _without_record(self, table: Mapping[Key, Row], begins: Offsets) -> Iterator[Difference]:
        """Yield rows without a record, unless the topic no longer has its first ones."""
        if any(begin for spot, begin in begins.items() if spot.topic == self._copied.topic.name):
            return
        for key in table.keys() - self._states.keys():
            yield Difference(_name(key), f"is in the table, and {self._copied.topic.name} has no record of it", None)


def _name(key: Key) -> str:
    """Return a key as people know it; a number is a time."""
    if isinstance(key, str):
        return key
    return datetime.fromtimestamp(key / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def put_aside(record: Record, *, short_name: Callable[[str], str]) -> dict[Coordinate, str]:
    """Return what a dead letter of Connect's is a copy of, and why; nothing if its headers do not say."""
    headers = {name.removeprefix(ERROR_HEADERS): value for name, value in texts(record.headers()).items()}
    try:
        at = Coordinate(short_name(headers["topic"]), int(headers["partition"]), int(headers["offset"]))
    except (KeyError, ValueError):
        return {}
    return {at: f"{headers.get('stage')}, {headers.get('exception.class.name')}: {headers.get('exception.message')}"}


def _dead_letters(cluster: Cluster) -> dict[Coordinate, str]:
    """Return the records that Connect put aside, and why. Where it never ran there are no topics for them."""
    why: dict[Coordinate, str] = {}

    def take(record: Record) -> None:
        why.update(put_aside(record, short_name=cluster.short_name))

    for sink in SINKS:
        with suppress(StoreDownError):
            begins = cluster.begins([sink.dead_letters])
            with TopicReader(cluster, begins, take) as reader:
                reader.read_to(cluster.ends([sink.dead_letters]), seconds=READ_SECONDS)
    return why


def _explained(compared: Comparison, dead_letters: Mapping[Coordinate, str]) -> Comparison:
    """Add to each difference what Connect says of its record."""
    explained = tuple(
        each._replace(what=f"{each.what}; it is a dead letter: {dead_letters[each.at]}")
        if each.at is not None and each.at in dead_letters
        else each
        for each in compared.differences
    )
    return replace(compared, differences=explained)
