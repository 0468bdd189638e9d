"""The pages and descriptions of the API, without a server behind them: what they name, how they are guarded."""

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.events import asyncapi
from common.topics import ALL_TOPICS
from order_service.io.app import create_app
from order_service.io.large_answers import AT_ONCE_BYTES_MAX
from order_service.io.problems import ProblemType
from order_service.io.publisher import Publisher
from order_service.io.readiness import Readiness
from order_service.io.static_files import StaticFile

THREADS = 8
PAGES = ("/docs", "/docs/events")
FIXED = (*PAGES, "/openapi.json", "/asyncapi.json", "/asyncapi.yaml", "/favicon.ico")
_NAMED = re.compile(r'(?:src|href)="([^"]*)"')


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    """Return a client of the application; its database and its broker are never asked for."""
    engine = sa.create_engine("postgresql+psycopg://unused@127.0.0.1:9/none")
    no_publisher = cast(Publisher, None)
    return create_app(
        engine, no_publisher, cast(Readiness, None), stopping=lambda: False, metrics_page=bytes, threads=THREADS
    ).test_client()


def get(client: FlaskClient, address: str, **headers: str) -> TestResponse:
    """Return a whole answer, read to its end."""
    return client.get(
        address, buffered=True, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def text(client: FlaskClient, address: str) -> str:
    answer = get(client, address)
    assert answer.status_code == 200, address
    return answer.text


def named(client: FlaskClient, *pages: str) -> set[str]:
    return {address for page in pages for address in _NAMED.findall(text(client, page))}


def asset(client: FlaskClient, page: str, name: str) -> str:
    """Return the address under which a page names a file: `icon.svg` -> /docs/assets/icon.<digest>.svg."""
    stem, _, kind = name.rpartition(".")
    (found,) = (each for each in named(client, page) if re.search(rf"/{re.escape(stem)}\.\w+\.{kind}$", each))
    return found


def numbers(node: Any) -> Iterator[float]:
    match node:
        case dict() | list():
            for value in node.values() if isinstance(node, dict) else node:
                yield from numbers(value)
        case float():
            yield node


def descriptions(node: Any) -> Iterator[str]:
    match node:
        case dict():
            for name, value in node.items():
                if name in {"description", "summary"} and isinstance(value, str):
                    yield value
                yield from descriptions(value)
        case list():
            for value in node:
                yield from descriptions(value)


@pytest.mark.parametrize("page", PAGES)
def test_page_takes_nothing_from_elsewhere(client: FlaskClient, page: str) -> None:
    addresses = named(client, page)
    assert len(addresses) > 5
    assert all(re.match(r"/(?!/)", address) for address in addresses), addresses
    assert "http" not in text(client, page)


@pytest.mark.parametrize("address", FIXED)
def test_page_may_run_no_script_but_files_from_here(client: FlaskClient, address: str) -> None:
    policy = get(client, address).headers["Content-Security-Policy"]
    allowed = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert allowed.pop("default-src") == "'none'"
    assert (allowed["script-src"], allowed["style-src"], allowed["connect-src"]) == ("'self'",) * 3
    assert (allowed["frame-ancestors"], allowed["base-uri"], allowed["form-action"]) == ("'none'",) * 3
    assert not re.search(r"unsafe|\*|https?:", policy)


@pytest.mark.parametrize("page", PAGES)
def test_page_has_no_script_and_no_style_of_its_own_which_the_policy_would_stop(client: FlaskClient, page: str) -> None:
    shown = text(client, page)
    assert re.findall(r"<script(?![^>]* src=)", shown) == []
    assert re.findall(r"<style| style=| on[a-z]+=", shown) == []


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_a_page_names_is_answered(client: FlaskClient, page: str) -> None:
    for address in named(client, page):
        answer = get(client, address)
        assert answer.status_code == 200, address
        assert answer.content_length, address


def test_own_script_shows_the_description_from_here_and_sends_it_nowhere(client: FlaskClient) -> None:
    script = text(client, asset(client, "/docs", "docs.js"))
    assert 'url: "/openapi.json"' in script
    assert "validatorUrl: null" in script
    assert "http" not in script


def test_page_of_the_events_shows_all_topics(client: FlaskClient) -> None:
    assert 'src="/asyncapi.json"' in text(client, "/docs/events")
    shown = json.loads(text(client, "/asyncapi.json"))
    assert shown == asyncapi.document()
    assert all(topic.name in shown["channels"] for topic in ALL_TOPICS)
    assert text(client, "/asyncapi.yaml") == asyncapi.as_yaml()


def test_icon_is_answered_where_browsers_look_for_it(client: FlaskClient) -> None:
    answer = get(client, "/favicon.ico")
    assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
    assert asset(client, "/docs/events", "icon.svg")


def test_file_named_by_its_content_is_asked_for_once(client: FlaskClient) -> None:
    answer = get(client, asset(client, "/docs", "swagger-ui.css"))
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    was, now = StaticFile.of("a", "text/css"), StaticFile.of("b", "text/css")
    assert was.named("docs.css") == StaticFile.of(b"a", "text/css").named("docs.css") != now.named("docs.css")


@pytest.mark.parametrize("packed", ["gzip", "identity"])
@pytest.mark.parametrize("address", FIXED)
def test_address_that_stays_is_validated_instead_of_sent_again(client: FlaskClient, address: str, packed: str) -> None:
    first = get(client, address, Accept_Encoding=packed)
    again = get(client, address, Accept_Encoding=packed, If_None_Match=first.headers["ETag"])
    assert first.headers["Cache-Control"] == "no-cache"
    assert (first.status_code, again.status_code, again.data) == (200, 304, b"")


@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate, br", "*"])
def test_file_is_compressed_for_clients_that_take_it(client: FlaskClient, accepted: str) -> None:
    address = asset(client, "/docs", "swagger-ui.js")
    packed, plain = get(client, address, Accept_Encoding=accepted), get(client, address)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.data) == plain.data
    assert len(packed.data) < len(plain.data) / 3


@pytest.mark.parametrize("refused", ["", "identity", "gzip;q=0", "br"])
def test_file_is_plain_for_clients_that_take_nothing_else(client: FlaskClient, refused: str) -> None:
    answer = get(client, "/openapi.json", Accept_Encoding=refused)
    assert "Content-Encoding" not in answer.headers
    assert json.loads(answer.data)["openapi"] == "3.1.0"


def test_large_files_are_sent_by_a_quarter_of_the_threads_at_most(client: FlaskClient) -> None:
    """Aim: slow readers of a large file must not hold every thread. Fault: readers that do not read on."""
    address = asset(client, "/docs", "swagger-ui.js")

    def stalled() -> TestResponse:
        return client.get(address, headers={"Accept-Encoding": "gzip"})  # its end is not read yet

    with ExitStack() as readers:
        for _ in range(THREADS // 4):
            assert readers.enter_context(stalled()).status_code == 200
        refused = stalled()
        assert (refused.status_code, json.loads(refused.data)["type"]) == (503, ProblemType.UNAVAILABLE.uri)
        assert int(refused.headers["Retry-After"]) > 0
        assert client.head(address).status_code == 200
        for small in (*FIXED, asset(client, "/docs", "swagger-ui.css")):
            answer = get(client, small, Accept_Encoding="gzip")
            assert (answer.status_code, answer.content_length < AT_ONCE_BYTES_MAX) == (200, True), small
    assert stalled().status_code == 200


def test_unknown_file_is_a_problem(client: FlaskClient) -> None:
    for name in ("swagger-ui.js", "../app.py", "docs.0123456789abcdef.js"):
        answer = get(client, f"/docs/assets/{name}")
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_description_has_whole_numbers_where_the_api_has(client: FlaskClient) -> None:
    description = json.loads(text(client, "/openapi.json"))
    assert list(numbers(description)) == []
    assert description["components"]["schemas"]["OrderLineBody"]["properties"]["quantity"]["minimum"] == 1


def test_descriptions_are_markdown_without_markup(client: FlaskClient) -> None:
    for address in ("/openapi.json", "/asyncapi.json"):
        found = list(descriptions(json.loads(text(client, address))))
        assert len(found) > 30
        assert [text for text in found if re.search(r"<[a-z/]", text) or text != text.strip()] == []


def test_every_problem_is_shown_with_its_type(client: FlaskClient) -> None:
    shown = text(client, "/openapi.json")
    missing = {kind.slug for kind in ProblemType if f'"{kind.uri}"' not in shown}
    assert missing == {"method-not-allowed"}  # no method that is described is answered so
