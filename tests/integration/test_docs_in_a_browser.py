"""The pages as people see them: a real browser runs their scripts under their policy."""

import json
import threading
from collections.abc import Iterator
from typing import cast
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from werkzeug.serving import make_server

from common.topics import ALL_TOPICS
from order_service.io.app import create_app
from order_service.io.publisher import Publisher
from order_service.io.readiness import Readiness
from tests.api import running_api
from tests.browser import Browser, open_browser
from tests.pipeline import Pipeline

WIDTHS = (420, 1280)
_OVER_THE_EDGE = """
const all = root => [...root.querySelectorAll('*')].flatMap(e => e.shadowRoot ? [e, ...all(e.shadowRoot)] : [e]);
return all(document.body)
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('pre'))
  .map(e => e.tagName + '.' + e.getAttribute('class'));
"""
_TEXT = """
const viewer = document.querySelector('asyncapi-viewer');
return document.body.innerText + (viewer ? viewer.shadowRoot.querySelector('*').parentNode.textContent : '');
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the application without servers behind it: its pages need none."""
    engine = sa.create_engine("postgresql+psycopg://unused@127.0.0.1:9/none")
    app = create_app(
        engine, cast(Publisher, None), cast(Readiness, None), stopping=lambda: False, metrics_page=bytes, threads=16
    )
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module", params=WIDTHS)
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    with open_browser(width=request.param) as window:
        yield window


def opened(browser: Browser, address: str) -> None:
    """Open all operations of the page of the API, and all shapes."""
    browser.open(address)
    browser.wait_for("return document.querySelectorAll('.opblock').length > 3", what="the operations")
    for part in (".opblock:not(.is-open) .opblock-summary-control", ".models .json-schema-2020-12-expand-deep-button"):
        browser.run(f"document.querySelectorAll('{part}').forEach(e => e.click())")
    browser.wait_for("return document.querySelectorAll('.opblock.is-open .responses-table').length > 3", what="answers")


def test_page_of_the_api_fits_and_shows_no_markup(browser: Browser, address: str) -> None:
    opened(browser, f"{address}/docs")
    assert browser.complaints() == []
    shown = browser.run(_TEXT)
    assert "Place an order" in shown
    assert "insufficient_stock" in shown
    assert [word for word in ("<br", "`", "1.0 ", "≥ 1.0") if word in shown.replace("1.0.0", "")] == []
    assert browser.run(_OVER_THE_EDGE) == []
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


def test_page_of_the_events_fits_and_shows_every_topic(browser: Browser, address: str) -> None:
    browser.open(f"{address}/docs/events")
    viewer = "document.querySelector('asyncapi-viewer')"
    browser.wait_for(f"return {viewer}?.shadowRoot?.textContent.includes('orders.created')", what="the topics")
    assert browser.complaints() == []
    shown = browser.run(_TEXT)
    assert [topic.name for topic in ALL_TOPICS if topic.name not in shown] == []
    assert [word for word in ("<br", "`") if word in shown] == []
    assert browser.run(_OVER_THE_EDGE) == []
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")


def test_order_is_placed_from_the_page(browser: Browser, pipeline: Pipeline) -> None:
    with running_api(pipeline) as (api, _):
        browser.open(f"{api.url}/docs#/orders/placeOrder")
        browser.wait_for("return document.querySelector('.execute')", what="the button")
        # The example is filled in after the button is drawn; a click before that asks for a body, and sends nothing.
        browser.wait_for("return document.querySelector('.body-param__text')?.value", what="the example")
        browser.run("document.querySelector('.execute').click()")
        answer = ".live-responses-table .response"
        browser.wait_for(f"return document.querySelector('{answer} code')", what="an answer")
        assert browser.run(f"return document.querySelector('{answer} .response-col_status').innerText").startswith(
            "202"
        )
        answered = json.loads(browser.run(f"return document.querySelector('{answer} code').textContent"))
        assert urlsplit(api.url).netloc in browser.run("return document.querySelector('.request-url').innerText")
        assert answered["links"]["self"] == f"/orders/{answered['order_id']}"
        assert browser.complaints() == []
