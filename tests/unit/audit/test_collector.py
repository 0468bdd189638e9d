"""Records become what the books keep, and what cannot be an event is kept apart."""

import json
import struct
import uuid
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import pytest

from audit.books import Verdict
from audit.readers.avro import Registry, UnreadableError, impossible
from audit.readers.collector import DEAD_LETTER_HEADERS, Collector, Record
from audit.terms import Coordinate
from common.events.codec import schema_text
from common.events.inventory import InventoryReserved
from common.events.orders import OrderCreated, OrderLine
from common.topics import MESSAGE_BYTES_MAX
from tests.factories import make_codec, make_order

ORDER_ID = "01a207b4-08ca-76ad-bfdf-1bb39da98f32"  # fixed: it stands in a test id, which all workers must share
EVENTS = ("OrderCreated", "InventoryReserved", "InventoryFailed", "NotificationSent")
CREATED_AT = Coordinate("orders.created", 3, 17)
EVENT_AT = Coordinate("inventory.reserved", 1, 5)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """A collector whose registry knows the packaged schemas by number."""
    registry = Registry("http://nowhere.invalid")
    monkeypatch.setattr(registry, "_read", lambda schema_id: schema_text(EVENTS[schema_id - 1]))
    return Collector(registry, namespace="ns")


def record(at: Coordinate, value: bytes | None, **headers: str) -> Record:
    return Record(at, b"ada", value, lambda: [(name, text.encode()) for name, text in headers.items()], lambda: (1, 0))


def reserved(order: OrderCreated, event_id: str) -> bytes:
    return make_codec().encode(
        InventoryReserved(event_id, order.order_id, order.user_id, order.lines, order.placed_at_ms, order.placed_at_ms)
    )


def test_an_order_is_kept_with_its_coordinate(collector: Collector) -> None:
    order = make_order()
    collector.take(record(CREATED_AT, make_codec().encode(order)))

    (created,) = collector.created[order.order_id]
    assert created.at == CREATED_AT


def test_lines_in_another_order_are_the_same_lines(collector: Collector) -> None:
    first, second = make_order(lines=[("tea", 1), ("mug", 2)]), make_order(lines=[("mug", 2), ("tea", 1)])
    other = make_order(lines=[("mug", 1), ("tea", 2)])
    for order in (first, second, other):
        collector.take(record(CREATED_AT, make_codec().encode(order)))

    lines = [collector.created[order.order_id][0].lines for order in (first, second, other)]
    assert lines[0] == lines[1] != lines[2]


def test_an_event_is_kept_with_what_its_headers_name(collector: Collector) -> None:
    order, event_id = make_order(), str(uuid.uuid4())
    headers = {"ce_id": event_id, "origin_topic": "ns.orders.created", "origin_partition": "3", "origin_offset": "17"}
    collector.take(record(EVENT_AT, reserved(order, event_id), **headers))

    (outcome,) = collector.outcomes[order.order_id]
    assert (outcome.at, outcome.source, outcome.verdict) == (EVENT_AT, CREATED_AT, Verdict.RESERVED)
    assert outcome.event_id == outcome.header_id == event_id


@pytest.mark.parametrize("headers", [{}, {"origin_topic": "t", "origin_partition": "x", "origin_offset": "1"}])
def test_headers_that_name_no_coordinate_are_none(collector: Collector, headers: dict[str, str]) -> None:
    order = make_order()
    collector.take(record(EVENT_AT, reserved(order, "e"), **headers))

    assert collector.outcomes[order.order_id][0].source is None


def framed(schema_id: int, body: bytes = b"") -> bytes:
    return struct.pack(">bI", 0, schema_id) + body


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "shorter"),
        (b"\x00\x00", "shorter"),
        (b"\x07\x00\x00\x00\x01", "magic byte 7"),
        (framed(1, b"\xff\xff"), "not Avro"),
        (framed(2), "is InventoryReserved, not OrderCreated"),
        (make_codec().encode(make_order(order_id=ORDER_ID)) + b"!", "bytes behind"),
    ],
)
def test_what_does_not_decode_is_poison_among_orders(collector: Collector, value: bytes | None, why: str) -> None:
    collector.take(record(CREATED_AT, value))

    (poison,) = collector.poison
    assert why in poison.why
    assert collector.created == {}


def test_what_does_not_decode_is_undecodable_among_events(collector: Collector) -> None:
    collector.take(record(EVENT_AT, b"garbage"))

    assert [found.at for found in collector.undecodable] == [EVENT_AT]


IMPOSSIBLE: tuple[Callable[[OrderCreated], OrderCreated], ...] = (
    lambda order: order._replace(order_id="1"),
    lambda order: order._replace(user_id=""),
    lambda order: order._replace(user_id="a\nb"),
    lambda order: order._replace(user_id="a" * 129),
    lambda order: order._replace(placed_at_ms=0),
    lambda order: order._replace(lines=()),
    lambda order: order._replace(lines=(OrderLine("tea", 0),)),
    lambda order: order._replace(lines=(OrderLine("tea", 10_001),)),
    lambda order: order._replace(lines=(OrderLine("", 1),)),
    lambda order: order._replace(lines=(OrderLine("tea", 1), OrderLine("tea", 1))),
    lambda order: order._replace(lines=tuple(OrderLine(f"sku{n}", 1) for n in range(101))),
)


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_an_impossible_order_is_poison(collector: Collector, change: Callable[[OrderCreated], OrderCreated]) -> None:
    collector.take(record(CREATED_AT, make_codec().encode(change(make_order()))))

    assert len(collector.poison) == 1


def test_the_largest_order_is_possible() -> None:
    lines: list[dict[str, Any]] = [{"sku": f"{n:064}", "quantity": 10_000} for n in range(100)]
    order = {"order_id": str(uuid.uuid4()), "user_id": "a" * 128, "lines": lines, "placed_at": 1}

    assert impossible(order) == ""


def test_a_name_with_a_joiner_is_possible() -> None:
    """The API takes Persian names and families of emoji, so no reader may call them poison."""
    order = {
        "order_id": str(uuid.uuid4()),
        "user_id": "\u0645\u06cc\u200c\u062e",
        "lines": [{"sku": "\U0001f468\u200d\U0001f469", "quantity": 1}],
        "placed_at": 1,
    }

    assert impossible(order) == ""
    assert impossible(order | {"user_id": "te\u200ba"}) == "user_id is no name"


def test_a_schema_that_is_not_registered_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry("http://nowhere.invalid")
    monkeypatch.setattr(registry, "_read", lambda _: None)

    with pytest.raises(UnreadableError, match="schema 9 is unknown"):
        registry.decode(framed(9), "OrderCreated")


DEAD_AT = Coordinate("orders.created.inventory.dlq", 0, 4)
NAMES = dict.fromkeys(DEAD_LETTER_HEADERS, "1") | {"dlq_topic": "ns.orders.created"}


def test_a_dead_letter_is_kept_with_the_record_it_names(collector: Collector) -> None:
    collector.take(record(CREATED_AT, b"garbage"))
    collector.take(record(DEAD_AT, b"garbage", **NAMES))

    (letter,) = collector.dead_letters
    assert (letter.source, letter.missing) == (Coordinate("orders.created", 1, 1), ())
    assert letter.digest == collector.poison[0].digest


@pytest.mark.parametrize(("omitted", "excused"), [(str(MESSAGE_BYTES_MAX + 1), "yes"), ("12", "no"), ("much", "no")])
def test_a_dead_letter_may_leave_out_what_is_too_large_and_nothing_else(
    collector: Collector, omitted: str, excused: str
) -> None:
    collector.take(record(DEAD_AT, None, **NAMES, dlq_omitted_bytes=omitted))

    assert (collector.dead_letters[0].digest is None) == (excused == "yes")


@pytest.mark.parametrize("name", DEAD_LETTER_HEADERS)
def test_a_dead_letter_s_missing_header_is_named(collector: Collector, name: str) -> None:
    collector.take(record(DEAD_AT, b"garbage", **{key: text for key, text in NAMES.items() if key != name}))

    assert collector.dead_letters[0].missing == (name,)


def test_an_event_of_another_version_is_read_by_the_schema_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = json.loads(schema_text("OrderCreated"))
    schema["fields"].insert(0, {"name": "shop", "type": "string"})
    body = BytesIO()
    fields = {"shop": "north", "order_id": "o", "user_id": "ada", "lines": [], "placed_at": 5}
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), fields)
    registry = Registry("http://nowhere.invalid")
    monkeypatch.setattr(registry, "_read", lambda _: json.dumps(schema))

    assert registry.decode(framed(4, body.getvalue()), "OrderCreated") == fields
