"""A batch of orders that is read at once holds what the codec reads of each record by itself, or asks it."""

import json
import random
import struct
import tomllib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.events import scanning
from common.events.codec import Codec, schema_text
from common.events.extension import VERSION, fitting
from common.events.orders import (
    LINES_MAX,
    PLACED_BEFORE_MS,
    QUANTITY_MAX,
    SKU_LENGTH_MAX,
    USER_ID_LENGTH_MAX,
    OrderCreated,
    OrderLine,
)
from common.events.schema_versions import parse
from onceloop.errors import Undecodable
from tests.factories import PLACED_AT_MS, make_codec, make_order
from tools.fuzz_decoder import Difference, compare, fuzz

CODEC = make_codec()
NATIVE = Path(__file__).parents[3] / "native"
FRAME = CODEC.encode(make_order())[:5]
WAYS = [
    pytest.param(scanning.leave_all, id="python"),
    pytest.param(
        scanning.by_extension,
        id="extension",
        marks=pytest.mark.skipif(not scanning.is_built(), reason="the extension is not built: no cargo here"),
    ),
]
each_way = pytest.mark.parametrize("build_scan", WAYS)
by_extension = pytest.mark.skipif(not scanning.is_built(), reason="the extension is not built: no cargo here")


def written(**changes: Any) -> bytes:
    """Return the bytes of an order that a writer of ours would never write."""
    order = make_order(order_id="01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f")
    lines = [{"sku": line.sku, "quantity": line.quantity} for line in order.lines]
    out = BytesIO(FRAME)
    out.seek(len(FRAME))
    avro = {"order_id": order.order_id, "user_id": "ada", "lines": lines, "placed_at": order.placed_at_ms}
    fastavro.schemaless_writer(out, parse(schema_text("OrderCreated")), {**avro, **changes})
    return out.getvalue()


def lines(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"sku": sku, "quantity": quantity} for sku, quantity in pairs]


GOOD = CODEC.encode(make_order(lines=[("tea", 2), ("mug", 1)], order_id="01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"))
NAMES = st.one_of(
    st.text(max_size=130),
    st.text(st.characters(max_codepoint=0x7F), max_size=130),
    st.text(st.sampled_from("a \u200c\u200d\u00a0\u00ad\x7f\x1f~\u05d0\U0001f469"), max_size=6),
)
NUMBERS = st.one_of(st.sampled_from([0, 1, -1, QUANTITY_MAX, QUANTITY_MAX + 1, 2**31 - 1, -(2**31)]), st.integers(0, 9))
TIMES = st.one_of(
    st.sampled_from([0, 1, -1, PLACED_BEFORE_MS - 1, PLACED_BEFORE_MS, 2**63 - 1, -(2**63)]), st.integers(0, 2**62)
)
IDS = st.one_of(st.uuids().map(str), st.uuids().map(lambda each: str(each).upper()), st.text(max_size=40))
RECORDS = st.builds(
    written,
    order_id=IDS,
    user_id=NAMES,
    lines=st.lists(st.tuples(st.one_of(st.sampled_from(["tea", "mug"]), NAMES), NUMBERS), max_size=4).map(
        lambda pairs: lines(*pairs)
    ),
    placed_at=TIMES,
)
SOUND = st.builds(
    lambda names, user: CODEC.encode(make_order(lines=[(name, 1 + len(name)) for name in names], user_id=user)),
    st.sets(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=64), min_size=1),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128),
)
CUT = st.builds(lambda value, end: value[:end], st.one_of(RECORDS, SOUND), st.integers(0, 400))
ANYTHING = st.one_of(RECORDS, SOUND, CUT, st.binary(max_size=40).map(lambda tail: FRAME + tail), st.binary(), st.none())


def asked(value: bytes | None) -> OrderCreated | None:
    try:
        return CODEC.decode(OrderCreated, value)
    except Undecodable:
        return None


@each_way
@given(st.lists(ANYTHING, max_size=8))
@example([written(lines=lines(("tea", 1), ("tea", 1)))])
@example([written(lines=lines(("tea", QUANTITY_MAX + 1)))])
@example([written(placed_at=PLACED_BEFORE_MS)])
@example([written(user_id="a\u200db"), written(user_id="a\x7f"), written(user_id="a" * (USER_ID_LENGTH_MAX + 1))])
def test_what_is_found_at_once_is_what_the_codec_reads(
    build_scan: scanning.BuildScan, values: list[bytes | None]
) -> None:
    found = build_scan(FRAME)(values)
    assert len(found) == len(values)
    for value, order in zip(values, found, strict=True):
        if order is None:
            continue
        assert order == asked(value)
        assert isinstance(order, OrderCreated)
        assert all(isinstance(line, OrderLine) for line in order.lines)


@by_extension
@given(st.lists(SOUND, min_size=1, max_size=5))
def test_usual_order_is_found_by_the_extension(values: list[bytes | None]) -> None:
    """Else every record would take the slow way, and no other test would say so."""
    assert scanning.by_extension(FRAME)(values) == [asked(value) for value in values]


AT_THE_BOUNDS = [
    written(user_id="a" * USER_ID_LENGTH_MAX),
    written(user_id=" ~"),
    written(lines=lines(("s" * SKU_LENGTH_MAX, QUANTITY_MAX))),
    written(lines=lines(*((f"sku{n}", 1) for n in range(LINES_MAX)))),
    written(placed_at=PLACED_BEFORE_MS - 1),
    written(placed_at=1),
]
UNUSUAL = {
    "another schema": b"\x00\x00\x00\x00\x63" + GOOD[5:],
    "another magic byte": b"\x01" + GOOD[1:],
    "the frame alone": GOOD[:5],
    "no value": None,
    "cut short": GOOD[:-1],
    "a byte behind it": GOOD + b"\x00",
    "an upper-case id": written(order_id="01990B3C-5A00-7D3E-9F5C-3B7E6A1D2C4F"),
    "a letter beyond ASCII": written(user_id="adä"),
    "a joiner": written(user_id="a\u200db"),
    "a control character": written(user_id="a\nb"),
    "DEL": written(lines=lines(("tea\x7f", 1))),
    "no name": written(user_id=""),
    "a long name": written(user_id="a" * (USER_ID_LENGTH_MAX + 1)),
    "a long SKU": written(lines=lines(("s" * (SKU_LENGTH_MAX + 1), 1))),
    "no lines": written(lines=[]),
    "too many lines": written(lines=lines(*((f"sku{n}", 1) for n in range(LINES_MAX + 1)))),
    "a SKU twice": written(lines=lines(("tea", 1), ("mug", 1), ("tea", 2))),
    "no units": written(lines=lines(("tea", 0))),
    "units below zero": written(lines=lines(("tea", -1))),
    "too many units": written(lines=lines(("tea", QUANTITY_MAX + 1))),
    "a time of nothing": written(placed_at=0),
    "the year 10000": written(placed_at=PLACED_BEFORE_MS),
    "a number in a longer form": GOOD.replace(b"\x06tea\x04", b"\x06tea\x84\x00"),
    "lines in two blocks": GOOD.replace(b"\x04\x06tea\x04\x06mug\x02\x00", b"\x02\x06tea\x04\x02\x06mug\x02\x00"),
    "a block with its size": GOOD.replace(b"\x04\x06tea\x04\x06mug\x02\x00", b"\x03\x14\x06tea\x04\x06mug\x02\x00"),
    "a number without end": FRAME + b"\xff" * 20,
}


@by_extension
@pytest.mark.parametrize("value", AT_THE_BOUNDS)
def test_order_at_a_bound_is_found(value: bytes) -> None:
    assert scanning.by_extension(FRAME)([value]) == [CODEC.decode(OrderCreated, value)]


@by_extension
@pytest.mark.parametrize("value", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_record_is_left_to_the_codec(value: bytes | None) -> None:
    assert value != GOOD
    assert scanning.by_extension(FRAME)([GOOD, value, GOOD])[1] is None


@by_extension
def test_value_that_is_no_bytes_is_left_to_the_codec_too() -> None:
    assert scanning.by_extension(FRAME)([bytearray(GOOD)]) == [None]  # type: ignore[list-item]  # on purpose


def test_schema_of_today_is_the_one_that_the_extension_knows() -> None:
    assert scanning.fits(parse(schema_text("OrderCreated")))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"int"', '"long"'),
        lambda text: text.replace('"name": "user_id"', '"name": "customer_id"'),
        lambda text: text.replace('"fields": [', '"fields": [{"name": "coupon", "type": "string"},', 1),
    ],
    ids=["another type", "another name", "a field more"],
)
def test_another_schema_is_read_by_the_codec_alone(change: Callable[[str], str]) -> None:
    schema = parse(change(schema_text("OrderCreated")))
    assert json.dumps(schema) != json.dumps(parse(schema_text("OrderCreated")))
    assert not scanning.fits(schema)


@each_way
def test_codec_reads_batches_in_the_way_it_is_given(build_scan: scanning.BuildScan) -> None:
    seen: list[bytes] = []

    def noted(frame: bytes) -> scanning.Scan:
        seen.append(frame)
        return build_scan(frame)

    codec = Codec({"OrderCreated": 7}, lambda _: "", build_scan=noted)
    assert seen == [struct.pack(">bI", 0, 7)]
    assert codec.scan_orders([None, b""]) == [None, None]


def test_codec_that_knows_no_orders_finds_none() -> None:
    assert Codec({"InventoryReserved": 7}, lambda _: "").scan_orders([GOOD]) == [None]


def test_version_is_that_of_the_crate() -> None:
    crate, wheel = (tomllib.loads((NATIVE / name).read_text()) for name in ("Cargo.toml", "pyproject.toml"))
    assert crate["package"]["version"] == wheel["project"]["version"] == VERSION


def test_extension_of_another_version_is_left_alone() -> None:
    """As after an upgrade without `make setup`."""
    assert fitting(None) is None
    assert fitting(ModuleType("before there were versions")) is None
    built = ModuleType("built")
    built.VERSION = "0.9.9"  # type: ignore[attr-defined]  # on purpose
    assert fitting(built) is None
    built.VERSION = VERSION  # type: ignore[attr-defined]  # on purpose
    assert fitting(built) is built


@by_extension
def test_fuzzing_for_a_moment_finds_no_difference() -> None:
    assert fuzz(CODEC, seed=1, rounds=2_000) > 0


def test_fuzzing_would_find_one() -> None:
    def lying(frame: bytes) -> scanning.Scan:
        del frame
        return lambda values: [make_order(placed_at_ms=PLACED_AT_MS) for _ in values]

    codec = Codec({"OrderCreated": 1}, lambda _: "", build_scan=lying)
    with pytest.raises(Difference):
        compare(codec, [random.Random(1).randbytes(9)])
