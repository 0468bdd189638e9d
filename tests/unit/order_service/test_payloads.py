"""What is understood of a request, and what is refused, before anything is done."""

import json
import sys
import unicodedata
from typing import Any

import pytest
from flask import Flask, Response
from pydantic import BaseModel, ValidationError

from common.events.orders import LINES_MAX, OrderLine, text_complaint
from order_service.core.idempotency import fingerprint
from order_service.core.placement import PlaceOrder
from order_service.core.status import OrderStatus
from order_service.io.payloads import (
    ListOrdersQuery,
    OrderDocument,
    OrderPath,
    PlaceOrderBody,
    PlaceOrderHeaders,
    rfc3339,
)
from order_service.io.problems import ProblemType, Refused
from order_service.io.reading import reading


def headers(**values: str) -> PlaceOrderHeaders:
    return PlaceOrderHeaders.model_validate({name.replace("_", "-"): value for name, value in values.items()})


def read(text: str) -> PlaceOrderBody:
    """Return what is read of a body. Raises Refused."""
    taken: list[PlaceOrderBody] = []

    def view(body: PlaceOrderBody) -> Response:
        taken.append(body)
        return Response()

    with Flask("test").test_request_context("/orders", method="POST", data=text, content_type="application/json"):
        reading(view)()
    return taken[0]


def refused_fields(text: str) -> set[str]:
    """Return the fields that a body is refused for."""
    with pytest.raises(Refused) as refused:
        read(text)
    assert refused.value.problem.type is ProblemType.INVALID_REQUEST
    return {error.field for error in refused.value.problem.errors}


def body(**changes: Any) -> str:
    return json.dumps({"user_id": "ada", "lines": [{"sku": "tea", "quantity": 2}], **changes})


def line(**changes: Any) -> dict[str, Any]:
    return {"sku": "tea", "quantity": 2, **changes}


def test_body_becomes_a_command() -> None:
    parsed = read(body(lines=[line(), line(sku="mug", quantity=1)]))
    assert parsed.command() == PlaceOrder("ada", (OrderLine("tea", 2), OrderLine("mug", 1)))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (body(user_id=""), "user_id"),
        (body(user_id="a" * 129), "user_id"),
        (body(user_id="a\u0000b"), "user_id"),
        (body(user_id="a\nb"), "user_id"),
        (body(user_id="a\u202eb"), "user_id"),
        (body(user_id=7), "user_id"),
        (body(lines=[]), "lines"),
        (body(lines=None), "lines"),
        (body(lines=[line(sku=f"s{n}") for n in range(LINES_MAX + 1)]), "lines"),
        (body(lines=[line(), line(quantity=1)]), "lines"),
        (body(lines=[line(quantity=0)]), "lines[0].quantity"),
        (body(lines=[line(quantity=-1)]), "lines[0].quantity"),
        (body(lines=[line(quantity=10**9)]), "lines[0].quantity"),
        (body(lines=[line(quantity="2")]), "lines[0].quantity"),
        (body(lines=[line(quantity=2.5)]), "lines[0].quantity"),
        (body(lines=[line(quantity=True)]), "lines[0].quantity"),
        (body(lines=[line(), line(sku="")]), "lines[1].sku"),
        (body(lines=[line(sku="s" * 65)]), "lines[0].sku"),
        (body(lines=[line(price=3)]), "lines[0].price"),
        (body(lines=[{"sku": "tea"}]), "lines[0].quantity"),
        (body(gift="yes"), "gift"),
        ('{"lines": []}', "user_id"),
        ("[]", "(body)"),
        ("null", "(body)"),
        ('"{}"', "(body)"),
    ],
)
def test_body_outside_the_description_is_refused_by_field(text: str, field: str) -> None:
    assert field in refused_fields(text)


def test_bodies_within_the_limits_are_taken() -> None:
    lines = [line(sku=f"{'s' * 60}{n}", quantity=10_000) for n in range(LINES_MAX)]
    assert len(read(body(user_id="é" * 128, lines=lines)).lines) == LINES_MAX


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("7f1c", "7f1c"),
        ('"7f1c"', "7f1c"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("a b;c", "a b;c"),
        ('"a b,c"', "a b,c"),
        ('"' + "k" * 255 + '"', "k" * 255),
    ],
)
def test_idempotency_key_is_taken_bare_or_quoted(sent: str, key: str) -> None:
    assert headers(Idempotency_Key=sent).idempotency_key == key


@pytest.mark.parametrize(
    "sent", ["", '""', '"', '"a', "a,b", "a,", ",", '"a","b"', " a", "a ", "k" * 256, "é", "a\x7f", r'"a\b"']
)
def test_malformed_idempotency_key_is_refused(sent: str) -> None:
    with pytest.raises(ValidationError, match="Idempotency-Key"):
        headers(Idempotency_Key=sent)


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        ("wait=2", 2),
        ("respond-async, Wait = 3; x=y", 3),
        ('wait="4"', 4),
        ("wait=60", 10),
        ("wait=1000000", 10),
        ("wait=" + "9" * 8000, 10),
        ("wait=" + "0" * 8000 + "3", 3),
        ('wait="1000000"', 10),
        ('wait="4', 0),
        ("wait=1_0", 0),
        ("wait=1e1", 0),
        ("wait=\u0665", 0),
        ("wait=2, wait=9", 2),
        ("wait=0", 0),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("return=minimal", 0),
        ("", 0),
    ],
)
def test_prefer_wait_is_understood_and_anything_else_ignored(sent: str, seconds: int) -> None:
    assert headers(Prefer=sent).wait_seconds == seconds


def test_whole_number_is_an_integer_however_it_is_written() -> None:
    """To JSON Schema, and to clients that know no integers, 2.0 is 2; the fingerprint must not distinguish them."""
    parsed = [read(body(lines=[line(quantity=two)])) for two in (2, 2.0)]
    assert parsed[0].command() == parsed[1].command()
    assert fingerprint(parsed[0].command()) == fingerprint(parsed[1].command())


def test_described_pattern_of_names_is_what_the_domain_takes() -> None:
    """Whether a joiner joins is beyond a pattern; whatever else is printable is allowed by both or by neither."""
    seen = r"[^\p{C}\p{Z}]"
    pattern = PlaceOrderBody.model_json_schema()["properties"]["user_id"]["pattern"]
    assert pattern == rf"^{seen}(?:(?:{seen}|[ \u200c\u200d])*(?:{seen}|[\u200c\u200d]))?$"
    for code in range(sys.maxunicode + 1):
        described = chr(code) in " \u200c\u200d" or unicodedata.category(chr(code))[0] not in "CZ"
        assert (not text_complaint(chr(code), length_max=1)) == described, hex(code)


@pytest.mark.parametrize("text", ["", "x", "01990B3C-5A00-7D3E-9F5C-3B7E6A1D2C4F", "01990b3c5a007d3e9f5c3b7e6a1d2c4f"])
def test_order_id_must_be_a_canonical_uuid(text: str) -> None:
    with pytest.raises(ValidationError, match="UUID"):
        OrderPath(order_id=text)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"user_id": ""},
        {"user_id": "a", "limit": "0"},
        {"user_id": "a", "limit": "101"},
        {"user_id": "a", "limit": "1_0"},
        {"user_id": " "},
        {"user_id": "a", "page": "2"},
    ],
)
def test_questions_outside_the_description_are_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ListOrdersQuery.model_validate(values)


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(1_800_000_000_005) == "2027-01-15T08:00:00.005Z"


def test_document_of_a_pending_order_leaves_the_rest_open() -> None:
    document: BaseModel = OrderDocument.of(OrderStatus("id", "ada", lines=(OrderLine("tea", 2),), placed_at_ms=0))
    assert document.model_dump(include={"status", "decided_at", "reason", "lacking", "notified", "notified_at"}) == {
        "status": "pending",
        "decided_at": None,
        "reason": None,
        "lacking": None,
        "notified": False,
        "notified_at": None,
    }
