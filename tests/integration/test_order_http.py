"""The HTTP contract, against a real gunicorn on a real broker and database."""

import gzip
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from common.events.orders import OrderCreated
from common.topics import ORDERS_CREATED
from order_service.io.routes import PROJECTION_SECONDS_MAX
from tests.api import connected, new_user, order_body, raw_answer, running_api
from tests.pipeline import Pipeline
from tests.records import codec_of, read, wait_for
from tests.shop import Shop, open_shop
from tests.stack import Stack

KIB = 1024
UNKNOWN_ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"


@pytest.fixture(scope="module")
def shop(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(servers, logs=tmp_path_factory.mktemp("shop")) as opened:
        yield opened


def test_accepted_order_is_on_the_topic_with_its_envelope(shop: Shop) -> None:
    user = new_user()
    answer = shop.api.place(user, [("tea", 2), ("mug", 1)])
    order_id = answer.json["order_id"]
    assert answer.status == 202
    assert answer.headers["location"] == f"/orders/{order_id}"
    assert answer.json == {"order_id": order_id, "status": "pending", "links": {"self": f"/orders/{order_id}"}}

    (seen,) = shop.records(user)
    event = codec_of(shop.pipeline).decode(OrderCreated, seen.value)
    assert (event.order_id, event.user_id, len(event.lines)) == (order_id, user, 2)
    assert seen.headers["ce_id"] == order_id.encode()
    assert (seen.headers["ce_type"], seen.headers["ce_source"]) == (b"order.created", b"/orders")
    assert seen.headers["content-type"] == b"application/avro"


REFUSED: dict[str, tuple[str | bytes, dict[str, str], int, str, str | None]] = {
    "malformed JSON": ('{"user_id": ', {}, 400, "malformed-json", None),
    "not UTF-8": (b'{"user_id": "\xff"}', {}, 400, "malformed-json", None),
    "no body": ("", {}, 400, "malformed-json", None),
    "deep nesting": ("[" * 10_000, {}, 400, "malformed-json", None),
    "wrong media type": (order_body("ada"), {"Content_Type": "text/plain"}, 415, "unsupported-media-type", None),
    "a form": (
        "user_id=ada",
        {"Content_Type": "application/x-www-form-urlencoded"},
        415,
        "unsupported-media-type",
        None,
    ),
    "compressed": (order_body("ada"), {"Content_Encoding": "gzip"}, 415, "unsupported-media-type", None),
    "unknown field": ('{"user_id":"ada","lines":[{"sku":"tea","quantity":1}],"x":1}', {}, 400, "invalid-request", "x"),
    "empty lines": (order_body("ada", []), {}, 400, "invalid-request", "lines"),
    "quantity 0": (order_body("ada", [("tea", 0)]), {}, 400, "invalid-request", "lines[0].quantity"),
    "quantity 10^9": (order_body("ada", [("tea", 10**9)]), {}, 400, "invalid-request", "lines[0].quantity"),
    "quantity as text": (
        '{"user_id":"ada","lines":[{"sku":"tea","quantity":"2"}]}',
        {},
        400,
        "invalid-request",
        "lines[0].quantity",
    ),
    "101 lines": (order_body("ada", [(f"s{n}", 1) for n in range(101)]), {}, 400, "invalid-request", "lines"),
    "same SKU twice": (order_body("ada", [("tea", 1), ("tea", 1)]), {}, 400, "invalid-request", "lines"),
    "user id empty": (order_body(""), {}, 400, "invalid-request", "user_id"),
    "user id too long": (order_body("u" * 129), {}, 400, "invalid-request", "user_id"),
    "user id with control characters": (order_body("a\x07b"), {}, 400, "invalid-request", "user_id"),
    "key too long": (order_body("ada"), {"Idempotency_Key": "k" * 256}, 400, "invalid-request", "Idempotency-Key"),
    "key empty": (order_body("ada"), {"Idempotency_Key": '""'}, 400, "invalid-request", "Idempotency-Key"),
    "a member twice": (
        '{"user_id":"ada","user_id":"eve","lines":[{"sku":"tea","quantity":1}]}',
        {},
        400,
        "invalid-request",
        "user_id",
    ),
    "NaN": ('{"user_id":"ada","lines":[{"sku":"tea","quantity":NaN}]}', {}, 400, "malformed-json", "(body)"),
    "user id of a space": (order_body(" "), {}, 400, "invalid-request", "user_id"),
    "user id with a hidden joiner": (order_body("a\u200cda"), {}, 400, "invalid-request", "user_id"),
    "SKU in two spellings": (
        order_body("ada", [("caf\u00e9", 1), ("cafe\u0301", 1)]),
        {},
        400,
        "invalid-request",
        "lines",
    ),
    "key with a bare comma": (
        order_body("ada"),
        {"Idempotency_Key": "k1,k2"},
        400,
        "invalid-request",
        "Idempotency-Key",
    ),
    "over 64 KiB": (order_body("u" * 64 * KIB), {}, 413, "too-large", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name_and_leaves_no_record(shop: Shop, name: str) -> None:
    body, headers, status, problem, field = REFUSED[name]
    before = shop.written()
    answer = shop.api.post(body, **headers)
    assert (answer.status, answer.problem) == (status, problem), answer
    assert field is None or field in answer.fields
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.body.decode()
    assert shop.written() == before


def padded(size: int) -> bytes:
    body = order_body(new_user()).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize(("size", "status"), [(64 * KIB, 202), (64 * KIB + 1, 413)])
def test_body_limit_is_64_kib__declared(shop: Shop, size: int, status: int) -> None:
    assert shop.api.post(padded(size)).status == status


@pytest.mark.parametrize(("size", "status"), [(64 * KIB, 202), (64 * KIB + 1, 413), (1024 * KIB, 413)])
def test_body_limit_is_64_kib__chunked(shop: Shop, size: int, status: int) -> None:
    """A chunked body has no length to look at: the limit must hold while it is read."""
    body = padded(size)
    with connected(shop.api) as sent:
        sent.sendall(
            b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        for start in range(0, size, 8 * KIB):
            chunk = body[start : start + 8 * KIB]
            with suppress(OSError):  # the answer may come, and the connection go, before all is sent
                sent.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        with suppress(OSError):
            sent.sendall(b"0\r\n\r\n")
        head = sent.makefile("rb").readline()
    assert head.split()[1] == str(status).encode()


def test_malformed_chunk_is_the_clients_fault(shop: Shop) -> None:
    with connected(shop.api) as sent:
        sent.sendall(
            b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nxyz\r\n"
        )
        assert sent.makefile("rb").readline().split()[1] == b"400"


@pytest.mark.parametrize(
    ("sent", "status", "problem"),
    [
        (b"GET /orders?user_id=%s HTTP/1.1\r\nHost: t\r\n\r\n" % (b"u" * 5000), 414, "uri-too-long"),
        (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: %s\r\n\r\n" % (b"x" * 9000), 431, "headers-too-large"),
        (b"GET /livez HTTP/1.1\r\nHost: t\r\nX Y: z\r\n\r\n", 400, "bad-request"),
        (b"nonsense\r\n\r\n", 400, "bad-request"),
    ],
)
def test_what_never_becomes_a_request_is_answered_with_a_problem_too(
    shop: Shop, sent: bytes, status: int, problem: str
) -> None:
    answer = raw_answer(shop.api, sent)
    assert (answer.status, answer.problem) == (status, problem)
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_address_that_is_not_there_is_a_problem(shop: Shop) -> None:
    answer = shop.api.get("/nothing")
    assert (answer.status, answer.problem) == (404, "not-found")


def test_wrong_method_names_the_right_ones(shop: Shop) -> None:
    answer = shop.api.request("DELETE", "/orders")
    assert (answer.status, answer.problem) == (405, "method-not-allowed")
    assert {"GET", "POST"} <= {method.strip() for method in answer.headers["allow"].split(",")}


def test_request_id_is_echoed_or_made(shop: Shop) -> None:
    assert shop.api.get("/livez", X_Request_Id="abc-1").headers["x-request-id"] == "abc-1"
    assert len(shop.api.get("/livez").headers["x-request-id"]) == 36
    assert shop.api.get("/livez", X_Request_Id="a b").headers["x-request-id"] != "a b"


def test_fresh_order_is_found_at_once(shop: Shop) -> None:
    """The projection is a moment behind; a client that follows Location right away must not meet 404."""
    for _ in range(20):
        answer = shop.api.get(shop.api.place().headers["location"])
        assert (answer.status, answer.json["status"]) == (200, "pending")


def test_status_document_of_a_pending_order_is_complete(shop: Shop) -> None:
    user = new_user()
    document = shop.api.get(shop.api.place(user, [("tea", 2), ("mug", 1)]).headers["location"]).json
    assert document.pop("placed_at").endswith("Z")
    order_id = document.pop("order_id")
    assert document == {
        "user_id": user,
        "status": "pending",
        "lines": [{"sku": "tea", "quantity": 2}, {"sku": "mug", "quantity": 1}],
        "decided_at": None,
        "reason": None,
        "lacking": None,
        "notified": False,
        "notified_at": None,
        "links": {"self": f"/orders/{order_id}"},
    }


def test_unknown_order_is_404_and_malformed_id_400(shop: Shop) -> None:
    started = time.monotonic()
    unknown = shop.api.get(f"/orders/{UNKNOWN_ID}")
    assert (unknown.status, unknown.problem) == (404, "order-unknown")
    assert time.monotonic() - started < PROJECTION_SECONDS_MAX, "an old id is not waited for"
    malformed = shop.api.get("/orders/42")
    assert (malformed.status, malformed.problem, malformed.fields) == (400, "invalid-request", {"order_id"})


def test_orders_of_a_user_come_newest_first_in_pages(shop: Shop) -> None:
    user, other = new_user(), new_user()
    placed = [shop.api.place(user).json["order_id"] for _ in range(5)]
    shop.api.place(other)
    wait_for(lambda: len(shop.api.get(f"/orders?user_id={user}").json["orders"]) == 5, what="five orders")

    seen, cursor = [], ""
    for _ in range(3):
        page = shop.api.get(f"/orders?user_id={user}&limit=2{cursor}").json
        seen += [document["order_id"] for document in page["orders"]]
        cursor = f"&cursor={page['next']}"
    assert seen == placed[::-1]
    assert page["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "user_id"),
        ("?user_id=", "user_id"),
        ("?user_id=a&limit=0", "limit"),
        ("?user_id=a&limit=101", "limit"),
        ("?user_id=a&limit=x", "limit"),
        ("?user_id=a&cursor=nonsense", "cursor"),
        ("?user_id=a&cursor=%C3%A9", "cursor"),
        ("?user_id=a&page=2", "page"),
    ],
)
def test_malformed_questions_name_the_parameter(shop: Shop, query: str, field: str) -> None:
    answer = shop.api.get(f"/orders{query}")
    assert (answer.status, answer.fields) == (400, {field})


def test_prefer_wait_answers_202_when_no_outcome_comes_in_time(shop: Shop) -> None:
    started = time.monotonic()
    answer = shop.api.place(Prefer="wait=1")
    assert answer.status == 202
    assert answer.headers["preference-applied"] == "wait=1"
    assert 1 <= time.monotonic() - started < 3


def test_description_is_openapi_3_1_and_names_every_answer(shop: Shop) -> None:
    description = shop.api.get("/openapi.json").json
    assert description["openapi"] == "3.1.0"
    answers = description["paths"]["/orders"]["post"]["responses"]
    assert set(answers) == {"200", "202", "400", "408", "413", "414", "415", "422", "431", "500", "503"}
    assert set(answers["422"]["content"]) == {"application/problem+json"}
    assert description["components"]["schemas"]["PlaceOrderBody"]["additionalProperties"] is False
    references = {part.split('"')[0] for part in json.dumps(description).split("#/components/schemas/")[1:]}
    assert references <= set(description["components"]["schemas"])


@pytest.mark.parametrize("page", ["/docs", "/docs/events"])
def test_page_and_all_that_it_names_come_from_the_api_itself(shop: Shop, page: str) -> None:
    shown = shop.api.get(page, Accept_Encoding="gzip")
    assert "script-src 'self';" in shown.headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="(/[^"]*)"', gzip.decompress(shown.body).decode())
    answers = {address: shop.api.get(address, Accept_Encoding="gzip") for address in (*named, "/favicon.ico")}
    assert len(answers) > 5
    assert {address: answer.status for address, answer in answers.items()} == dict.fromkeys(answers, 200)


def test_ready_says_so(shop: Shop) -> None:
    assert shop.api.get("/readyz").json == {"ready": True, "missing": []}
    assert shop.api.get("/livez").status == 200


def test_client_that_stalls_in_its_headers_loses_its_thread(shop: Shop) -> None:
    """Aim: slow clients must not hold every thread. Fault: half a request, then silence."""
    with connected(shop.api) as slow:
        slow.sendall(b"POST /orders HTTP/1.1\r\nHost: t\r\n")
        started = time.monotonic()
        slow.recv(1024)
        assert time.monotonic() - started < 15


def test_stop_ends_waits_early_and_exits_within_five_seconds(pipeline: Pipeline) -> None:
    body = order_body(new_user()).encode()
    with running_api(pipeline) as (api, process), connected(api) as waiting:
        waiting.sendall(
            b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nPrefer: wait=10\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        wait_for(lambda: len(read(pipeline, ORDERS_CREATED)) == 1, what="the order on the topic")
        started = time.monotonic()
        assert process.stop() == 0, process.output()
        assert time.monotonic() - started < 5
        assert waiting.makefile("rb").readline().split()[1] == b"202"


def test_wrong_settings_are_refused_by_name_before_anything_starts(pipeline: Pipeline) -> None:
    process = pipeline.start("order_service", "api", role="order_rw", env={"PIPELINE_HTTP_WORKERS": "0"})
    assert process.wait() == 78
    assert "PIPELINE_HTTP_WORKERS" in process.output()


def test_port_in_use_is_said_with_a_cure(pipeline: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = pipeline.start(
            "order_service", "api", role="order_rw", env={"PIPELINE_HTTP_PORT": str(taken.getsockname()[1])}
        )
        assert process.wait(timeout_seconds=20) == 75
    assert "PIPELINE_HTTP_PORT" in process.output()
