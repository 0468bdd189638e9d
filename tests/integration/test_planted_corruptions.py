"""Every stored field that repeats or derives a fact is compared with it: each is spoilt once, and the rule named.

Rows are spoilt in PostgreSQL and put back. A record cannot be rewritten on a topic, so it is spoilt on its way from the
broker to the books. docs/books.md has the same list.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from audit.readers.collector import Collector, Record
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated, OrderLine
from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial
from common.topics import ORDERS_CREATED
from tests.audits import execute
from tests.records import codec_of
from tests.stack import Stack
from tests.stood import UNREADABLE, Stood, open_stood

pytestmark = pytest.mark.xdist_group("planted-corruptions")  # one pipeline for all

OTHER_ID = "00000000-0000-7000-8000-000000000001"
TABLES = (
    "inventory.decision",
    "inventory.decision_total",
    "inventory.stock",
    "inventory.progress",
    "inventory.start",
    "inventory.input_topic",
    "orders.idempotency_key",
    "orders.order_status",
    "orders.projection_offset",
    "notification.ledger",
)


@pytest.fixture(scope="module")
def stood(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stood]:
    with open_stood(servers, tmp_path_factory.mktemp("stood")) as here:
        for table in TABLES:
            execute(here.pipeline, f"CREATE TABLE kept_{table.replace('.', '_')} AS TABLE {table}")
        yield here


@pytest.fixture(scope="module")
def memory(stood: Stood, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an incremental audit remembers of the sound pipeline."""
    path = tmp_path_factory.mktemp("memory") / "verify.sqlite"
    assert stood.broken_since(path) == stood.broken_since(path) == {}
    return path


@contextmanager
def put_back(stood: Stood, table: str) -> Iterator[None]:
    """Give the table its rows back at the end of the block."""
    try:
        yield
    finally:
        # A decision that is put back is counted once more, so the totals follow it.
        for each in dict.fromkeys((table, "inventory.decision_total")):
            execute(stood.pipeline, f"TRUNCATE {each}")
            execute(stood.pipeline, f"INSERT INTO {each} SELECT * FROM kept_{each.replace('.', '_')}")  # noqa: S608


def of(rule: str, table: str, **assignments: str) -> list[Any]:
    """Return one case per column: the order whose row is spoilt by this assignment, and the rule that names it."""
    return [
        pytest.param(table, f"UPDATE {{table}} SET {change} WHERE {{row}}", rule, id=f"{table}.{column}")  # noqa: S608
        for column, change in assignments.items()
    ]


def gone(rule: str, table: str) -> Any:
    return pytest.param(table, "DELETE FROM {table} WHERE {row}", rule, id=f"{table} row")


ROWS = [
    *of(
        "S7",
        "inventory.decision",
        order_id=f"order_id = '{OTHER_ID}'",
        verdict="verdict = 1, reason = NULL",
        reason="reason = 'unknown_sku'",
        event_id=f"event_id = '{OTHER_ID}'",
        event="event = event || '!'::bytea",
        topic="topic = 'elsewhere'",
        partition="partition = partition + 1",
        offset='"offset" = "offset" + 1',
        skus="skus = ARRAY['tea', 'cup']",
        qtys="qtys = ARRAY[1, 4]",
        decided_at="decided_at = decided_at + interval '1 ms'",
        user_id="user_id = 'eve'",
        turn="user_id = 'ada', turn = 2",
    ),
    gone("S7", "inventory.decision"),
    *of(
        "S6",
        "inventory.decision_total",
        verdict="verdict = 1 - verdict",
        reason="reason = 'another'",
        orders="orders = orders + 1",
    ),
    gone("S6", "inventory.decision_total"),
    *of("S6", "inventory.stock", on_hand="on_hand = on_hand + 1", available="available = available - 1"),
    gone("S6", "inventory.stock"),
    *of("S8", "inventory.progress", topic="topic = 'elsewhere'", partition="partition = 77", offset='"offset" = 999'),
    *of(
        "S8",
        "inventory.start",
        topic="topic = 'elsewhere'",
        partition="partition = 77",
        committed_offset="committed_offset = 999",
    ),
    *of("S8", "inventory.input_topic", topic="topic = 'elsewhere'", topic_id="topic_id = 'another'"),
    *of(
        "S1",
        "orders.idempotency_key",
        user_id="user_id = 'eve'",
        fingerprint="fingerprint = ''",
        order_id=f"order_id = '{OTHER_ID}'",
        event="event = event || '!'::bytea",
    ),
    *of(
        "S17",
        "orders.order_status",
        order_id=f"order_id = '{OTHER_ID}'",
        user_id="user_id = 'eve'",
        status="status = 'pending', reason = NULL, decided_at = NULL",
        reason="reason = 'unknown_sku'",
        sku="sku = 'tea'",
        requested="requested = 2",
        available="available = 2",
        lines="lines = '[]'",
        no_lines="lines = NULL",
        placed_at="placed_at = placed_at + interval '1 ms'",
        decided_at="decided_at = decided_at + interval '1 ms'",
        notified_at="notified_at = notified_at - interval '1 ms'",
        not_notified="notified_at = NULL",
    ),
    gone("S17", "orders.order_status"),
    *of(
        "S17",
        "orders.projection_offset",
        topic="topic = 'elsewhere-' || topic",
        partition="partition = partition + 77",
        next_offset="next_offset = 999",
    ),
    *of(
        "S13",
        "notification.ledger",
        order_id=f"order_id = '{OTHER_ID}'",
        kind="kind = 'order_confirmed'",
        channel="channel = 'smtp'",
        user_id="user_id = 'eve'",
        state="state = 'claimed', sent_at = NULL",
        message_id="message_id = '<another@x>'",
        sent_at="sent_at = sent_at + interval '1 ms'",
    ),
    *of("S9", "notification.ledger", event_id=f"event_id = '{OTHER_ID}'"),
    gone("S13", "notification.ledger"),
]
FIRST = "ctid = (SELECT min(ctid) FROM {table})"
ROW = {
    "inventory.stock": "sku = 'tea'",
    "inventory.decision_total": FIRST,
    "inventory.progress": FIRST,
    "inventory.start": FIRST,
    "inventory.input_topic": FIRST,
    "orders.idempotency_key": "key = '7f1c'",
    "orders.projection_offset": FIRST,
}


@pytest.mark.parametrize(("table", "statement", "rule"), ROWS)
def test_a_row_that_is_spoilt_is_named__by_an_incremental_audit_too(
    stood: Stood, memory: Path, tmp_path: Path, table: str, statement: str, rule: str
) -> None:
    row = ROW.get(table, f"order_id = '{stood.failed}'").format(table=table)
    with put_back(stood, table):
        execute(stood.pipeline, statement.format(table=table, row=row))
        found = stood.broken()
        since = stood.broken_since(Path(shutil.copy(memory, tmp_path)))

    assert rule in found
    assert since.keys() == found.keys()


LAWFUL = [
    ("orders.idempotency_key", "DELETE FROM orders.idempotency_key"),
    ("inventory.decision", "UPDATE inventory.decision SET replays = replays + 1"),
    ("notification.ledger", "UPDATE notification.ledger SET attempts = attempts + 1, claimed_at = claimed_at"),
    ("inventory.progress", 'UPDATE inventory.progress SET "offset" = 0'),
    ("inventory.start", "UPDATE inventory.start SET starts = starts + 1"),
]


@pytest.mark.parametrize(("table", "statement"), LAWFUL)
def test_what_is_a_fact_of_its_own_or_a_lower_bound_may_change(
    stood: Stood, memory: Path, tmp_path: Path, table: str, statement: str
) -> None:
    with put_back(stood, table):
        execute(stood.pipeline, statement)
        found = stood.broken()
        since = stood.broken_since(Path(shutil.copy(memory, tmp_path)))

    assert found == since == {}


def headers(**changed: str | None) -> Callable[[Record, Codec], Record]:
    """Return what spoils headers; None takes one away."""

    def spoil(record: Record, _: Codec) -> Record:
        there = [(name, value) for name, value in record.headers() or () if name not in changed]
        there += [(name, value.encode()) for name, value in changed.items() if value is not None]
        return record._replace(headers=lambda: there)

    return spoil


def key(record: Record, _: Codec) -> Record:
    return record._replace(key=b"mallory")


def value(record: Record, _: Codec) -> Record:
    return record._replace(value=b"garbage of another kind")


def field(event: type[Any], **changed: Any) -> Callable[[Record, Codec], Record]:
    """Return what encodes the event again with another value of a field."""

    def spoil(record: Record, codec: Codec) -> Record:
        decoded = codec.decode(event, record.value)
        change = getattr(decoded, "_replace", None) or partial(replace, decoded)
        return record._replace(value=codec.encode(change(**changed)))

    return spoil


def each(event: type[Any], **changed: Any) -> dict[str, Callable[[Record, Codec], Record]]:
    return {name: field(event, **{name: value}) for name, value in changed.items()}


ENVELOPE = {
    "key": key,
    **{
        name: headers(**{name: "another"}) for name in ("ce_id", "ce_type", "ce_time", "ce_specversion", "content-type")
    },
}
ORIGIN = {name: headers(**{name: "7"}) for name in ("origin_topic", "origin_partition", "origin_offset")}
LINES = (OrderLine("tea", 9),)
OUTCOME = {
    "event_id": OTHER_ID,
    "order_id": OTHER_ID,
    "user_id": "eve",
    "lines": LINES,
    "placed_at_ms": 7 * MINUTE_MS,
    "decided_at_ms": 7 * MINUTE_MS,
}
RECORDS: dict[tuple[str, str], dict[str, Callable[[Record, Codec], Record]]] = {
    ("orders.created", "S1"): {**ENVELOPE},
    ("orders.created", "S7"): each(OrderCreated, user_id="eve", lines=(OrderLine("tea", 1),), placed_at_ms=7),
    ("orders.created", "S8"): each(OrderCreated, order_id=OTHER_ID),
    ("inventory.reserved", "S7"): {
        **ENVELOPE,
        **ORIGIN,
        "ce_source": headers(ce_source="/elsewhere"),
        **each(InventoryReserved, **OUTCOME),
    },
    ("inventory.failed", "S7"): {
        **ENVELOPE,
        **ORIGIN,
        "ce_source": headers(ce_source="/elsewhere"),
        **each(InventoryFailed, **OUTCOME, reason=Reason.OTHER, sku="tea", requested=9, available=9),
    },
    ("notification.sent", "S13"): {
        **ENVELOPE,
        "ce_source": headers(ce_source="/elsewhere"),
        **each(
            NotificationSent,
            event_id=OTHER_ID,
            order_id=OTHER_ID,
            user_id="eve",
            kind=Kind.OTHER,
            channel="smtp",
            sent_at_ms=7,
        ),
    },
    ("notification.sent", "S9"): ORIGIN,
    ("orders.created.inventory.dlq", "S11"): {
        "key": key,
        "value": value,
        "an added header": headers(added="1"),
        "dlq_version": headers(dlq_version="7"),
        "dlq_topic": headers(dlq_topic="elsewhere"),
        **{name: headers(**{name: None}) for name in ("dlq_reason", "dlq_error_class")},
    },
    ("orders.created.inventory.dlq", "S8"): {name: headers(**{name: "7"}) for name in ("dlq_partition", "dlq_offset")},
    ("metrics.partials", "S12"): {
        **{name: spoil for name, spoil in ENVELOPE.items() if name != "ce_time"},
        **each(VolumePartial, topic="elsewhere", partition=7, minute_ms=0, reserved=9, failed=9, units=9, late=9),
        "until": field(VolumePartial, until=999),
    },
    ("metrics", "S12"): {
        **{name: spoil for name, spoil in ENVELOPE.items() if name != "ce_time"},
        **each(MinuteVolume, minute_ms=0, orders=9, reserved=9, failed=9, units=9, late=9, revision=9),
    },
}


@pytest.mark.parametrize(
    ("topic", "rule", "name"),
    [
        pytest.param(topic, rule, name, id=f"{topic} {name}")
        for (topic, rule), spoils in RECORDS.items()
        for name in spoils
    ],
)
def test_a_record_that_is_spoilt_is_named(
    stood: Stood, monkeypatch: pytest.MonkeyPatch, topic: str, rule: str, name: str
) -> None:
    """Aim: the first record of the topic comes spoilt, all others as they stand."""
    codec, take, spoilt = codec_of(stood.pipeline), Collector.take, list[Record]()

    def spoiling(self: Collector, record: Record) -> None:
        holds_order = topic != ORDERS_CREATED.name or record.value != UNREADABLE
        if record.at.topic == topic and holds_order and not spoilt:
            record = RECORDS[topic, rule][name](record, codec)
            spoilt.append(record)
        take(self, record)

    monkeypatch.setattr(Collector, "take", spoiling)
    found = stood.broken()

    assert spoilt
    assert rule in found
