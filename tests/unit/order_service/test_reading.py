"""What can be understood in two ways is refused by its name; what is one thing in two writings is taken."""

import json
import time
import tracemalloc
from collections.abc import Mapping

import pytest
from werkzeug.wrappers import Response

from common.events.orders import OrderLine
from tests.counter import Counter, ask

LINES = '"lines": [{"sku": "tea", "quantity": 2}]'
ORDER = f'{{"user_id": "ada", {LINES}}}'
JSON = {"Content-Type": "application/json"}
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
PERSIAN, FAMILY = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def quantity(text: str) -> str:
    return f'{{"user_id": "ada", "lines": [{{"sku": "tea", "quantity": {text}}}]}}'


def order(user_id: str = "ada", sku: str = "tea") -> str:
    return json.dumps({"user_id": user_id, "lines": [{"sku": sku, "quantity": 2}]})


REFUSED_BODIES: dict[str, tuple[str | bytes, str]] = {
    "a member twice": (f'{{"user_id": "ada", "user_id": "eve", {LINES}}}', "user_id"),
    "the same member twice": (f'{{"user_id": "ada", "user_id": "ada", {LINES}}}', "user_id"),
    "a member twice, once escaped": (f'{{"user_id": "ada", "user\\u005fid": "eve", {LINES}}}', "user_id"),
    "a member twice inside": ('{"user_id": "ada", "lines": [{"sku": "a", "sku": "b", "quantity": 1}]}', "lines[0].sku"),
    "a member twice deep inside": ('{"user_id": "ada", "lines": [1, [{"a": {"b": 1, "b": 2}}]]}', "lines[1][0].a.b"),
    "an unknown member twice": (f'{{"user_id": "ada", {LINES}, "x": 1, "x": 1}}', "x"),
    "NaN": (quantity("NaN"), "(body)"),
    "Infinity": (quantity("Infinity"), "(body)"),
    "-Infinity": (quantity("-Infinity"), "(body)"),
    "a number as text": (quantity('"2"'), "lines[0].quantity"),
    "a boolean as a number": (quantity("true"), "lines[0].quantity"),
    "a fraction": (quantity("2.5"), "lines[0].quantity"),
    "a fraction that a float drops": (quantity("1.00000000000000000001"), "lines[0].quantity"),
    "a huge exponent": (quantity("1e999999999"), "lines[0].quantity"),
    "an absurd exponent": (quantity("1e99999999999999999999"), "lines[0].quantity"),
    "a small exponent": (quantity("1e-99999999999999999999"), "lines[0].quantity"),
    "a number of 5,000 digits": (quantity("9" * 5000), "lines[0].quantity"),
    "minus zero": (quantity("-0"), "lines[0].quantity"),
    "a number with a leading zero": (quantity("02"), "(body)"),
    "a number with a plus": (quantity("+2"), "(body)"),
    "a number in hexadecimal": (quantity("0x2"), "(body)"),
    "a comma at the end": ('{"user_id": "ada", "lines": [],}', "(body)"),
    "something behind": (ORDER + " {}", "(body)"),
    "single quotes": ("{'user_id': 'ada'}", "(body)"),
    "a comment": (ORDER + " // for ada", "(body)"),
    "nothing": (b"", "(body)"),
    "spaces alone": (b"  \r\n ", "(body)"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "(body)"),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + ORDER.encode(), "(body)"),
    "UTF-16": (ORDER.encode("utf-16"), "(body)"),
    "Latin-1": (order().replace("ada", "é").encode("latin-1"), "(body)"),
    "UTF-8 that is longer than it need be": (b'{"user_id": "\xc0\xaf", "lines": []}', "(body)"),
    "a surrogate in UTF-8": (b'{"user_id": "\xed\xa0\x80", "lines": []}', "(body)"),
    "half of a surrogate pair": (f'{{"user_id": "\\ud83d", {LINES}}}', "user_id"),
    "half of a surrogate pair as a SKU": (order(sku="\udc00"), "lines[0].sku"),
    "a control character in a text": (f'{{"user_id": "a\tb", {LINES}}}', "(body)"),
    "deep nesting": ("[" * 60_000, "(body)"),
    "deep objects": ('{"a":' * 10_000, "(body)"),
    "a user id that is a space": (order(user_id=" "), "user_id"),
    "a user id of spaces alone": (order(user_id="   "), "user_id"),
    "a user id that ends with a space": (order(user_id="ada "), "user_id"),
    "a SKU that is a space": (order(sku=" "), "lines[0].sku"),
    "a SKU that begins with a space": (order(sku=" tea"), "lines[0].sku"),
    "a name that hides a joiner": (order(user_id="a\u200cda"), "user_id"),
    "a SKU that hides a joiner": (order(sku="te\u200da"), "lines[0].sku"),
    "a name with a direction of its own": (order(user_id="a\u202eda"), "user_id"),
    "a member's name with a space": (f'{{" user_id": "ada", {LINES}}}', "user_id"),
    "a SKU in two spellings": (
        json.dumps({"user_id": "ada", "lines": [{"sku": sku, "quantity": 1} for sku in (COMPOSED, DECOMPOSED)]}),
        "lines",
    ),
}


@pytest.mark.parametrize("name", REFUSED_BODIES)
def test_body_that_is_ambiguous_is_refused_by_field(name: str) -> None:
    body, field = REFUSED_BODIES[name]
    counter = Counter()
    answer = ask(counter, "POST", "/orders", JSON, body.encode() if isinstance(body, str) else body)
    assert refused(answer) >= {field}, answer.get_data()
    assert counter.topic == []


REFUSED_REQUESTS: dict[str, tuple[str, str, Mapping[str, str | None], str]] = {
    "a parameter twice": ("GET", "/orders?user_id=ada&user_id=eve", {}, "user_id"),
    "a parameter twice, once escaped": ("GET", "/orders?user_id=ada&user%5Fid=ada", {}, "user_id"),
    "another parameter twice": ("GET", "/orders?user_id=ada&limit=1&limit=2", {}, "limit"),
    "a query that is not UTF-8": ("GET", "/orders?user_id=%ff", {}, "user_id"),
    "a query in longer UTF-8 than it need be": ("GET", "/orders?user_id=%c0%af", {}, "user_id"),
    "a surrogate in the query": ("GET", "/orders?user_id=%ed%a0%80", {}, "user_id"),
    "a parameter's name that is not UTF-8": ("GET", "/orders?user_id=ada&%ff=1", {}, "(query)"),
    "a broken escape": ("GET", "/orders?user_id=%zz", {}, "user_id"),
    "half an escape": ("GET", "/orders?user_id=ada%4", {}, "user_id"),
    "a number with an underscore": ("GET", "/orders?user_id=ada&limit=1_0", {}, "limit"),
    "a number with a leading zero": ("GET", "/orders?user_id=ada&limit=010", {}, "limit"),
    "a number with a plus": ("GET", "/orders?user_id=ada&limit=%2B5", {}, "limit"),
    "a number with a space": ("GET", "/orders?user_id=ada&limit=+5", {}, "limit"),
    "a number with a fraction": ("GET", "/orders?user_id=ada&limit=5.0", {}, "limit"),
    "a number with an exponent": ("GET", "/orders?user_id=ada&limit=1e1", {}, "limit"),
    "digits of another script": ("GET", "/orders?user_id=ada&limit=%D9%A5", {}, "limit"),
    "a number that is empty": ("GET", "/orders?user_id=ada&limit=", {}, "limit"),
    "a parameter without a value": ("GET", "/orders?user_id", {}, "user_id"),
    "a user id that is a space": ("GET", "/orders?user_id=%20", {}, "user_id"),
    "a user id that is a plus, which is a space": ("GET", "/orders?user_id=+", {}, "user_id"),
    "a user id that hides a joiner": ("GET", "/orders?user_id=a%E2%80%8Cda", {}, "user_id"),
    "an unknown parameter": ("GET", "/orders?user_id=ada&page=2", {}, "page"),
    "a parameter in the wrong case": ("GET", "/orders?User_Id=ada", {}, "User_Id"),
    "a query where none belongs": ("POST", "/orders?wait=5", JSON, "wait"),
    "a query of one order": ("GET", "/orders/01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f?a=1", {}, "a"),
    "two keys": ("POST", "/orders", {**JSON, "Idempotency-Key": "k1,k2"}, "Idempotency-Key"),
    "two keys in quotes": ("POST", "/orders", {**JSON, "Idempotency-Key": '"k1","k2"'}, "Idempotency-Key"),
    "the same key twice": ("POST", "/orders", {**JSON, "Idempotency-Key": "k1, k1"}, "Idempotency-Key"),
    "a key of spaces": ("POST", "/orders", {**JSON, "Idempotency-Key": "  "}, "Idempotency-Key"),
    "a key with a space at its end": ("POST", "/orders", {**JSON, "Idempotency-Key": "k "}, "Idempotency-Key"),
    "no host": ("GET", "/orders?user_id=ada", {"Host": None}, "Host"),
    "no host for a page": ("GET", "/openapi.json", {"Host": None}, "Host"),
    "a host with a space": ("GET", "/orders?user_id=ada", {"Host": "a b"}, "Host"),
    "a host with a user": ("GET", "/orders?user_id=ada", {"Host": "eve@shop"}, "Host"),
    "a host with a path": ("GET", "/orders?user_id=ada", {"Host": "shop/x"}, "Host"),
    "an empty segment": ("GET", "//orders?user_id=ada", {}, "(path)"),
    "an empty segment inside": ("GET", "/orders//01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f", {}, "(path)"),
    "an empty segment at the end": ("POST", "/orders//", JSON, "(path)"),
    "a chunked body of a question": ("GET", "/orders?user_id=ada", {"Transfer-Encoding": "chunked"}, "(body)"),
}


@pytest.mark.parametrize("name", REFUSED_REQUESTS)
def test_request_that_is_ambiguous_is_refused_by_name(name: str) -> None:
    method, target, headers, field = REFUSED_REQUESTS[name]
    counter = Counter()
    answer = ask(counter, method, target, headers, ORDER.encode() if method == "POST" else b"")
    assert field in refused(answer), answer.get_data()
    assert counter.topic == []
    assert counter.asked == []


@pytest.mark.parametrize("target", ["/orders?user_id=ada", "/orders/01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"])
def test_question_with_a_body_is_refused(target: str) -> None:
    assert refused(ask(Counter(), "GET", target, JSON, b"{}")) == {"(body)"}


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"Content-Type": "text/plain"}, "Content-Type"),
        ({"Content-Type": None}, "Content-Type"),
        ({"Content-Type": "application/json, application/json"}, "Content-Type"),
        ({"Content-Type": "application/json; charset=latin-1"}, "Content-Type"),
        ({**JSON, "Content-Encoding": "gzip"}, "Content-Encoding"),
    ],
)
def test_body_in_another_form_names_the_header(headers: Mapping[str, str | None], field: str) -> None:
    answer = ask(Counter(), "POST", "/orders", headers, ORDER.encode())
    assert refused(answer, status=415) == {field}


TAKEN: dict[str, tuple[str | bytes, Mapping[str, str | None]]] = {
    "as it is": (ORDER, JSON),
    "a byte order mark": (b"\xef\xbb\xbf" + ORDER.encode(), JSON),
    "space around": (f"\r\n\t {ORDER} \n", JSON),
    "a charset that says what is so": (ORDER, {"Content-Type": "Application/JSON; charset=UTF-8"}),
    "a whole number with a fraction": (quantity("2.0"), JSON),
    "a whole number with an exponent": (quantity("2e0"), JSON),
    "a whole number with another exponent": (quantity("20E-1"), JSON),
    "escapes": (ORDER.replace("tea", "\\u0074ea").replace("user_id", "user\\u005fid"), JSON),
    "no host, as HTTP/1.0 may": (ORDER, {**JSON, "Host": None}),
    "an address as the host": (ORDER, {**JSON, "Host": "[::1]:8080"}),
    "a preference twice": (ORDER, {**JSON, "Prefer": "wait=1,wait=9"}),
    "a key with a comma in quotes": (ORDER, {**JSON, "Idempotency-Key": '"k1,k2"'}),
    "a length of nothing": (ORDER, {**JSON, "Content-Encoding": "identity"}),
}


@pytest.mark.parametrize("name", TAKEN)
def test_one_order_in_many_writings_is_taken(name: str) -> None:
    body, headers = TAKEN[name]
    counter = Counter()
    protocol = "HTTP/1.0" if "HTTP/1.0" in name else "HTTP/1.1"
    sent = body.encode() if isinstance(body, str) else body
    answer = ask(counter, "POST", "/orders", headers, sent, protocol=protocol)
    assert answer.status_code == 202, answer.get_data()
    (placed,) = counter.orders()
    assert (placed.user_id, placed.lines) == ("ada", (OrderLine("tea", 2),))


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("user_id=ada", "ada"),
        ("user_id=ada+b", "ada b"),
        ("user_id=ada%20b&", "ada b"),
        ("user_id=a%26b&&limit=5", "a&b"),
        ("user_id=a=b", "a=b"),
        ("user_id=%25", "%"),
    ],
)
def test_query_is_read_as_forms_write_it(query: str, asked: str) -> None:
    counter = Counter()
    assert ask(counter, "GET", f"/orders?{query}").status_code == 200
    assert counter.asked == [{asked}]


@pytest.mark.parametrize(
    ("sent", "kept"), [(DECOMPOSED, COMPOSED), (COMPOSED, COMPOSED), (PERSIAN, PERSIAN), (FAMILY, FAMILY)]
)
def test_names_are_kept_in_one_spelling(sent: str, kept: str) -> None:
    counter = Counter()
    assert ask(counter, "POST", "/orders", JSON, order(sent, sent).encode()).status_code == 202
    (placed,) = counter.orders()
    assert (placed.user_id, placed.lines) == (kept, (OrderLine(kept, 2),))


def test_orders_of_a_user_are_looked_for_under_what_is_kept_and_what_was_kept_before() -> None:
    counter = Counter()
    for spelling in ("caf%C3%A9", "cafe%CC%81"):
        assert ask(counter, "GET", f"/orders?user_id={spelling}").status_code == 200
    assert counter.asked == [{COMPOSED}, {COMPOSED, DECOMPOSED}]


def test_refusing_many_names_that_come_twice_takes_no_longer_than_their_bytes() -> None:
    """64 KiB of short names: comparing each with each would take seconds."""
    body = "{" + ",".join(f'"{n:x}":1' for n in [*range(3500), *range(3500)]) + "}"
    started = time.process_time()
    answer = ask(Counter(), "POST", "/orders", JSON, body.encode())
    assert len(refused(answer)) == 20
    assert time.process_time() - started < 1.0


def test_names_of_parts_that_lie_deep_take_no_more_memory_than_their_bytes() -> None:
    """900 lists around 20,000, with a name twice: each part's place written out would be 144 MB."""
    body = "[" * 900 + '{"a": 1, "a": 1},' + ",".join(["[]"] * 20_000) + "]" * 900
    tracemalloc.start()
    try:
        answer = ask(Counter(), "POST", "/orders", JSON, body.encode())
        assert tracemalloc.get_traced_memory()[1] < 32_000_000
    finally:
        tracemalloc.stop()
    assert len(refused(answer)) == 1


def test_answer_stays_small_whatever_names_the_client_chose() -> None:
    body = '{"' + "n" * 50_000 + '": {' + ",".join(f'"{n}": 1, "{n}": 1' for n in range(100)) + "}}"
    answer = ask(Counter(), "POST", "/orders", JSON, body.encode())
    refused(answer)
    assert len(answer.get_data()) < 8_192


def refused(answer: Response, *, status: int = 400) -> set[str]:
    """Return the fields that a request is refused for."""
    assert answer.status_code == status, answer.get_data()
    assert answer.mimetype == "application/problem+json"
    return {error["field"] for error in json.loads(answer.get_data())["errors"]}
