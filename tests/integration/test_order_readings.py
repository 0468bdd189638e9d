"""What two readers could understand in two ways, sent to a real gunicorn; the unit test of the reading has the rest."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.api import new_user, order_body, raw_answer
from tests.shop import Shop, open_shop
from tests.stack import Stack


@pytest.fixture(scope="module")
def shop(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(servers, logs=tmp_path_factory.mktemp("shop")) as opened:
        yield opened


JSON_TYPE = b"Content-Type: application/json\r\n"
HOST = b"Host: t\r\n"


def raw_order(headers: bytes, *, target: bytes = b"/orders") -> bytes:
    body = order_body("ada").encode()
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST %s HTTP/1.1\r\nConnection: close\r\n%s%s\r\n%s" % (target, headers, length, body)


def raw_question(target: bytes, headers: bytes = b"", body: bytes = b"") -> bytes:
    return b"GET %s HTTP/1.1\r\nConnection: close\r\n%s%s\r\n%s" % (target, HOST, headers, body)


TWO_KEYS = b"Idempotency-Key: k1\r\nIdempotency-Key: k2\r\n"
ONE_KEY_TWICE = b"Idempotency-Key: k\r\nIdempotency-Key: k\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ASKED = b"/orders?user_id=ada"
AMBIGUOUS: dict[str, tuple[bytes, str]] = {
    "two keys": (raw_order(JSON_TYPE + HOST + TWO_KEYS), "Idempotency-Key"),
    "one key twice": (raw_order(JSON_TYPE + HOST + ONE_KEY_TWICE), "Idempotency-Key"),
    "no host": (raw_order(JSON_TYPE), "Host"),
    "an empty segment": (raw_order(JSON_TYPE + HOST, target=b"//orders"), "(path)"),
    "an empty segment of a question": (raw_question(b"/" + ASKED), "(path)"),
    "an empty segment, escaped": (raw_question(b"/%2Forders?user_id=ada"), "(path)"),
    "a query that is not UTF-8": (raw_question(b"/orders?user_id=%ff"), "user_id"),
    "a parameter twice": (raw_question(ASKED + b"&user_id=eve"), "user_id"),
    "a question with a body": (raw_question(ASKED, b"Content-Length: 2\r\n", b"{}"), "(body)"),
    "a question with a chunked body": (raw_question(ASKED, CHUNKED, b"0\r\n\r\n"), "(body)"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_bytes_that_two_readers_could_understand_in_two_ways_are_refused_by_name(shop: Shop, name: str) -> None:
    sent, field = AMBIGUOUS[name]
    before = shop.written()
    answer = raw_answer(shop.api, sent)
    assert (answer.status, answer.fields) == (400, {field})
    assert shop.written() == before


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        (JSON_TYPE + HOST + b"Host: u\r\n", "Host"),
        (JSON_TYPE + b"Content-Type: text/plain\r\n" + HOST, "Content-Type"),
        (JSON_TYPE + JSON_TYPE + HOST, "Content-Type"),
        (JSON_TYPE + HOST + b"Content-Length: 3\r\n", "Content-Length"),
    ],
)
def test_header_that_may_come_once_and_comes_twice_is_refused_by_name(shop: Shop, headers: bytes, named: str) -> None:
    before = shop.written()
    answer = raw_answer(shop.api, raw_order(headers))
    assert (answer.status, answer.problem, answer.fields) == (400, "bad-request", {named})
    assert shop.written() == before


def test_preferences_in_two_headers_are_one_list(shop: Shop) -> None:
    answer = raw_answer(shop.api, raw_order(JSON_TYPE + HOST + b"Prefer: wait=1\r\nPrefer: wait=9\r\n"))
    assert (answer.status, answer.headers["preference-applied"]) == (202, "wait=1")


def test_byte_order_mark_before_json_is_read_past(shop: Shop) -> None:
    assert shop.api.post(b"\xef\xbb\xbf" + order_body(new_user()).encode()).status == 202


def test_names_are_one_in_both_spellings_and_may_hold_joiners(shop: Shop) -> None:
    user, family = f"caf\u00e9 {new_user()}", "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    answer = shop.api.place(user.replace("\u00e9", "e\u0301"), [("cafe\u0301", 1), (family, 1)])
    document = shop.api.get(answer.headers["location"]).json
    assert document["user_id"] == user
    assert [line["sku"] for line in document["lines"]] == ["caf\u00e9", family]
    assert [seen.key for seen in shop.records(user)] == [user.encode()]
    for spelling in (user, user.replace("\u00e9", "e\u0301")):
        page = shop.api.get(f"/orders?user_id={quote(spelling)}").json
        assert [each["order_id"] for each in page["orders"]] == [answer.json["order_id"]]
