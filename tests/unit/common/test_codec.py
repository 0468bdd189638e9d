"""Bytes <-> event: what is written is read, whatever else arrives is refused by name and never crashes."""

import io
import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.events.codec import EVENT_TYPES, Codec, Event, schema_text
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import LINES_MAX, QUANTITY_MAX, SKU_LENGTH_MAX, USER_ID_LENGTH_MAX, OrderCreated, OrderLine
from common.events.schema_versions import newest
from common.events.volume import MinuteVolume, VolumePartial, minute_of
from onceloop.errors import Busy, Undecodable
from tests.factories import make_codec, make_order

CODEC = make_codec()

NAMES = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=SKU_LENGTH_MAX)
MS = st.integers(1, 253_402_300_799_999)
LINES = st.lists(
    st.builds(OrderLine, NAMES, st.integers(1, QUANTITY_MAX)), min_size=1, max_size=6, unique_by=lambda line: line.sku
).map(tuple)
INT = st.integers(-(2**31), 2**31 - 1)
COUNT32, COUNT = st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)
MINUTE = MS.map(minute_of)
IDS = st.uuids().map(str)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(OrderCreated, IDS, NAMES, LINES, MS),
    st.builds(InventoryReserved, IDS, IDS, NAMES, LINES, MS, MS),
    st.builds(InventoryFailed, IDS, IDS, NAMES, LINES, st.sampled_from(Reason), NAMES, INT, INT, MS, MS),
    st.builds(NotificationSent, IDS, IDS, NAMES, st.sampled_from(Kind), NAMES, MS),
    st.builds(VolumePartial, NAMES, COUNT32, MINUTE, COUNT, COUNT, COUNT, COUNT, COUNT),
    st.builds(MinuteVolume, MINUTE, COUNT, COUNT, COUNT, COUNT, COUNT, COUNT),
)

# One event per schema, filled with everything that an encoding could get wrong.
SOME_LINES = (OrderLine("tea", 2), OrderLine('mug "ö", {1}\\', 10_000), OrderLine("壺", 1))
ORDER_ID, EVENT_ID = "0192f0c1-2d3e-7abc-8def-0123456789ab", "0192f0c1-2d3f-7abc-8def-0123456789ab"
SAMPLES: dict[str, Event] = {
    "OrderCreated": OrderCreated(ORDER_ID, "ada", SOME_LINES, 1_800_000_000_123),
    "InventoryReserved": InventoryReserved(EVENT_ID, ORDER_ID, "ada", SOME_LINES, 1_800_000_000_123, 1_800_000_000_456),
    "InventoryFailed": InventoryFailed(
        EVENT_ID,
        ORDER_ID,
        "ada",
        SOME_LINES,
        Reason.INSUFFICIENT_STOCK,
        "壺",
        1,
        0,
        1_800_000_000_123,
        1_800_000_000_456,
    ),
    "NotificationSent": NotificationSent(EVENT_ID, ORDER_ID, "ada", Kind.ORDER_CONFIRMED, "smtp", 1_800_000_000_789),
    "VolumePartial": VolumePartial("inventory.reserved", 7, 1_800_000_000_000, 3, 0, 12, 3, 4_294_967_301),
    "MinuteVolume": MinuteVolume(1_800_000_000_000, 5, 3, 2, 12, 1, 4),
}


def framed(schema_id: int, schema: dict[str, Any], record: Mapping[str, object]) -> bytes:
    """Return what a writer with this schema sends."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return struct.pack(">bI", 0, schema_id) + out.getvalue()


def refusal(value: bytes | None, codec: Codec = CODEC) -> Undecodable:
    with pytest.raises(Undecodable) as caught:
        codec.decode(OrderCreated, value)
    return caught.value


@given(EVENTS)
def test_what_is_encoded_is_decoded_equal(event: Event) -> None:
    assert CODEC.decode(type(event), CODEC.encode(event)) == event


@pytest.mark.parametrize("name", SAMPLES)
def test_event_is_written_as_the_golden_bytes_of_its_newest_schema(name: str) -> None:
    golden = newest(name).golden
    assert golden is not None
    value = CODEC.encode(SAMPLES[name])
    assert value[5:] == golden.avro
    assert CODEC.decode(type(SAMPLES[name]), value[:5] + golden.avro) == SAMPLES[name]


def test_every_event_has_golden_bytes() -> None:
    assert {kind.__name__ for kind in EVENT_TYPES} == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_other_avro_readers_understand_the_bytes(name: str) -> None:
    value = CODEC.encode(SAMPLES[name])
    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), json.loads(schema_text(name)))
    assert isinstance(record, dict)
    assert "order_id" not in record or str(record["order_id"]) == ORDER_ID  # a logical type, but of the same text


@given(IDS, st.builds(OrderCreated, IDS, NAMES, LINES, MS), MS)
@example(EVENT_ID, make_order(placed_at_ms=1), 63)
@example(EVENT_ID, make_order(lines=[(f"sku-{n}", QUANTITY_MAX) for n in range(LINES_MAX)]), 64)
def test_reservation_made_of_the_orders_own_bytes_is_the_encoded_one(
    event_id: str, order: OrderCreated, decided_at_ms: int
) -> None:
    reserved = InventoryReserved(
        event_id, order.order_id, order.user_id, order.lines, order.placed_at_ms, decided_at_ms
    )
    made = CODEC.encode_reserved(CODEC.encode(order), event_id=event_id, decided_at_ms=decided_at_ms)
    assert made == CODEC.encode(reserved)


def test_reservations_of_a_batch_are_those_of_its_orders_one_by_one() -> None:
    foreign = b"\x00\x00\x00\x00\x0c" + CODEC.encode(make_order())[5:]
    codec = Codec({"OrderCreated": 1, "InventoryReserved": 2}, lambda _: schema_text("OrderCreated"))
    orders, ids = [codec.encode(make_order()), foreign, codec.encode(make_order())], [EVENT_ID, ORDER_ID, EVENT_ID]
    alone = [
        codec.encode_reserved(order, event_id=event_id, decided_at_ms=7)
        for order, event_id in zip(orders, ids, strict=True)
    ]
    assert codec.encode_all_reserved(orders, ids, 7) == alone
    assert codec.decode(InventoryReserved, alone[1]).event_id == ORDER_ID


def test_frame_names_the_schema_in_big_endian() -> None:
    codec = Codec({"OrderCreated": 0x01020304}, lambda _: "")
    assert codec.encode(make_order())[:5] == b"\x00\x01\x02\x03\x04"


# --- refusals ---------------------------------------------------------------------------------------------------------

GOOD = CODEC.encode(make_order(lines=[("tea", 2), ("mug", 1)]))


@pytest.mark.parametrize("value", [None, b"", b"\x00", GOOD[:4]])
def test_value_shorter_than_the_frame_is_refused(value: bytes | None) -> None:
    assert refusal(value).error_class == "frame"


@pytest.mark.parametrize("magic", [1, 0x7B, 0xFF])
def test_foreign_magic_is_refused_and_named(magic: int) -> None:
    found = refusal(bytes([magic]) + GOOD[1:])
    assert (found.error_class, f"{magic:#04x}" in found.reason) == ("magic", True)


def test_id_that_is_not_registered_is_refused() -> None:
    def unknown(schema_id: int) -> str:
        raise Undecodable("schema", f"schema id {schema_id} is not registered")

    found = refusal(struct.pack(">bI", 0, 4711) + GOOD[5:], Codec({"OrderCreated": 1}, unknown))
    assert (found.error_class, "4711" in found.reason) == ("schema", True)


def test_id_that_cannot_be_looked_up_now_is_no_fault_of_the_record() -> None:
    def away(_schema_id: int) -> str:
        raise Busy("schema registry")

    with pytest.raises(Busy):
        Codec({"OrderCreated": 1}, away).decode(OrderCreated, struct.pack(">bI", 0, 9) + GOOD[5:])


@pytest.mark.parametrize("length", range(5, len(GOOD)))
def test_truncated_record_is_refused(length: int) -> None:
    assert refusal(GOOD[:length]).error_class == "avro"


def test_bytes_behind_the_record_are_refused() -> None:
    assert refusal(GOOD + b"\x00").error_class == "avro"


def test_another_event_on_this_topic_is_refused() -> None:
    assert refusal(CODEC.encode(SAMPLES["InventoryReserved"])).error_class in {"avro", "content"}
    assert refusal(CODEC.encode(SAMPLES["NotificationSent"])).error_class in {"avro", "content"}


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "object", "properties": {"order_id": {"type": "string"}}}',
        'syntax = "proto3"; message Order { string order_id = 1; }',
        '"string"',
        '{"type": "record", "name": "R", "fields": [{"name": "line", "type": "elsewhere.OrderLine"}]}',
        '{"$ref": "#/definitions/order"}',
        "true",
        "",
    ],
    ids=["JSON schema", "protobuf", "not a record", "Avro reference", "JSON reference", "JSON schema true", "empty"],
)
def test_schema_that_is_no_readable_avro_record_is_refused(text: str) -> None:
    codec = Codec({"OrderCreated": 1}, lambda _: text)
    assert refusal(struct.pack(">bI", 0, 2) + GOOD[5:], codec).error_class in {"schema", "avro"}


@given(st.binary(max_size=60))
@example(b"\xff" * 12)  # a length below zero
@example(b"\x02\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")
def test_any_bytes_behind_a_good_frame_are_an_event_or_refused(body: bytes) -> None:
    with suppress(Undecodable):
        assert isinstance(CODEC.decode(OrderCreated, GOOD[:5] + body), OrderCreated)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_an_event_or_refused(at: int, flip: int) -> None:
    value = bytearray(GOOD)
    value[at] ^= flip
    codec = Codec({"OrderCreated": 1}, lambda _: schema_text("OrderCreated"))
    with suppress(Undecodable):
        assert isinstance(codec.decode(OrderCreated, bytes(value)), OrderCreated)


SEVEN = "0192f0c1-2d3e-7abc-8def-0123456789ab"


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (make_order(order_id="no uuid"), "order_id"),
        (make_order(order_id=SEVEN.upper()), "order_id"),
        (make_order(order_id="{" + SEVEN + "}"), "order_id"),
        (make_order(order_id=SEVEN + "\n"), "order_id"),
        (make_order(order_id=SEVEN.replace("-", "")), "order_id"),
        (make_order(user_id=""), "user_id"),
        (make_order(user_id="a" * (USER_ID_LENGTH_MAX + 1)), "user_id"),
        (make_order(user_id="ada\x00"), "user_id"),
        (make_order(user_id="ada\u202e"), "user_id"),
        (make_order(placed_at_ms=0), "placed_at"),
        (make_order(placed_at_ms=-1), "placed_at"),
        (make_order(placed_at_ms=253_402_300_800_000), "placed_at"),
        (make_order(placed_at_ms=2**63 - 1), "placed_at"),
        (make_order(lines=[]), "lines"),
        (make_order(lines=[(f"sku-{n}", 1) for n in range(LINES_MAX + 1)]), "lines"),
        (make_order(lines=[("tea", 1), ("tea", 2)]), "lines"),
        (make_order(lines=[("tea", 1), ("", 1)]), "lines[1].sku"),
        (make_order(lines=[("s" * (SKU_LENGTH_MAX + 1), 1)]), "lines[0].sku"),
        (make_order(lines=[("te\ta", 1)]), "lines[0].sku"),
        (make_order(lines=[("tea", 0)]), "lines[0].quantity"),
        (make_order(lines=[("tea", -1)]), "lines[0].quantity"),
        (make_order(lines=[("\U0001f468\u200d\U0001f469", 0)]), "lines[0].quantity"),
        (make_order(lines=[("tea", QUANTITY_MAX + 1)]), "lines[0].quantity"),
    ],
)
def test_impossible_content_is_refused_naming_the_field(order: OrderCreated, field: str) -> None:
    found = refusal(CODEC.encode(order))
    assert found.error_class == "content"
    assert found.reason.startswith(field)


def test_quantity_beyond_what_avro_calls_an_int_is_refused() -> None:
    wide = json.loads(schema_text("OrderCreated").replace('"type": "int"', '"type": "long"'))
    value = framed(1, wide, {**avro_of(make_order()), "lines": [{"sku": "tea", "quantity": 2**40}]})
    assert refusal(value).error_class == "content"


@pytest.mark.parametrize(
    "order",
    [
        make_order(user_id="u" * USER_ID_LENGTH_MAX),
        make_order(lines=[(f"sku-{n}", QUANTITY_MAX) for n in range(LINES_MAX)]),
        make_order(lines=[("s" * SKU_LENGTH_MAX, 1)]),
        make_order(user_id="\u0645\u06cc\u200c\u062e", lines=[("\U0001f468\u200d\U0001f469", 1)]),
        make_order(placed_at_ms=1),
        make_order(placed_at_ms=253_402_300_799_999),
    ],
    ids=["longest user", "most lines", "longest sku", "joiners", "first moment", "last moment"],
)
def test_limits_themselves_are_allowed(order: OrderCreated) -> None:
    assert CODEC.decode(OrderCreated, CODEC.encode(order)) == order


# --- other versions of a schema ---------------------------------------------------------------------------------------


def avro_of(order: OrderCreated) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "user_id": order.user_id,
        "lines": [{"sku": line.sku, "quantity": line.quantity} for line in order.lines],
        "placed_at": order.placed_at_ms,
    }


def test_field_that_a_newer_writer_added_is_skipped() -> None:
    newer = json.loads(schema_text("OrderCreated"))
    newer["fields"].insert(1, {"name": "coupon", "type": "string", "default": ""})
    asked: list[int] = []

    def writer_schema(schema_id: int) -> str:
        asked.append(schema_id)
        return json.dumps(newer)

    codec, order = Codec({"OrderCreated": 1}, writer_schema), make_order()
    plain = json.loads(json.dumps(newer).replace('"logicalType"', '"was"'))
    value = framed(12, plain, {**avro_of(order), "coupon": "SPRING"})
    assert [codec.decode(OrderCreated, value) for _ in range(3)] == [order] * 3
    assert asked == [12]  # once per process, not per record


def test_reservation_of_an_order_in_another_schema_is_written_in_ours() -> None:
    newer = json.loads(schema_text("OrderCreated"))
    newer["fields"].insert(1, {"name": "coupon", "type": "string", "default": ""})
    plain = json.loads(json.dumps(newer).replace('"logicalType"', '"was"'))
    codec, order = Codec({"OrderCreated": 1, "InventoryReserved": 2}, lambda _: json.dumps(newer)), make_order()
    foreign = framed(12, plain, {**avro_of(order), "coupon": "SPRING"})
    made = codec.encode_reserved(foreign, event_id=EVENT_ID, decided_at_ms=7)
    assert made == codec.encode_reserved(codec.encode(order), event_id=EVENT_ID, decided_at_ms=7)


def test_reason_that_only_a_newer_writer_knows_is_read_as_other() -> None:
    newer = json.loads(schema_text("InventoryFailed").replace('"other",', '"other", "recalled",', 1))
    plain = json.loads(json.dumps(newer).replace('"logicalType"', '"was"'))
    codec = Codec({"InventoryFailed": 3}, lambda _: json.dumps(newer))
    value = framed(
        13,
        plain,
        {
            "event_id": EVENT_ID,
            **avro_of(make_order(order_id=ORDER_ID)),
            "reason": "recalled",
            "sku": "tea",
            "requested": 1,
            "available": 0,
            "decided_at": 1,
        },
    )
    assert codec.decode(InventoryFailed, value).reason is Reason.OTHER
