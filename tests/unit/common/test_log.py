"""Log lines: one JSON object each, and never a secret or an e-mail address in them."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog

from common import log
from common.config import Settings

ADDRESS = "ada.lovelace+shop@mail.example.org"
PASSWORD = "hunter2"


class Out:
    """What a process writes once it is configured."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def configured(self, **changes: Any) -> Any:
        log.configure(Settings(**changes), service="inventory", slot=3)
        return structlog.get_logger()

    def text(self) -> str:
        return self._capsys.readouterr().out

    def line(self) -> dict[str, Any]:
        (only,) = self.text().splitlines()
        found: dict[str, Any] = json.loads(only)
        return found


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Iterator[Out]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Out(capsys)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def fail(reason: str) -> None:
    raise ValueError(reason)


def test_line_is_one_json_object_with_service_slot_time_and_level(out: Out) -> None:
    out.configured().info("batch.committed", records=120)
    line = out.line()
    assert {key: line[key] for key in ("event", "records", "service", "slot", "level")} == {
        "event": "batch.committed",
        "records": 120,
        "service": "inventory",
        "slot": 3,
        "level": "info",
    }
    assert line["timestamp"].endswith("Z")


def test_line_of_another_thread_names_the_service_too(out: Out) -> None:
    logger = out.configured()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(logger.info, "request.answered").result()
    line = out.line()
    assert (line["service"], line["slot"]) == ("inventory", 3)


@pytest.mark.parametrize("name", ["password", "postgres_password", "Authorization", "api_token", "CLIENT_SECRET"])
def test_value_under_a_secret_name_is_redacted(out: Out, name: str) -> None:
    out.configured().info("client.built", **{name: PASSWORD})
    assert out.line()[name] == "[redacted]"


@pytest.mark.parametrize(
    "value",
    [
        f"to {ADDRESS} at once",
        [ADDRESS],
        {"to": ADDRESS},
        {"deep": [{"to": (ADDRESS, "x")}]},
        ValueError(f"refused {ADDRESS}"),
        ADDRESS.encode(),
    ],
    ids=["text", "list", "mapping", "nested", "exception", "bytes"],
)
def test_address_is_redacted_wherever_it_stands(out: Out, value: object) -> None:
    out.configured().info("mail.sent", value=value)
    text = out.text()
    assert "lovelace" not in text
    assert "[address]" in text


@pytest.mark.parametrize(
    "value",
    [
        {"sasl.password": PASSWORD},
        [{"password": PASSWORD}],
        f"postgresql://rw:{PASSWORD}@127.0.0.1:5432/pipeline",
        [f"https://user:{PASSWORD}@registry.example"],
    ],
    ids=["mapping", "nested", "url", "url in a list"],
)
def test_password_is_redacted_wherever_it_stands(out: Out, value: object) -> None:
    out.configured().info("client.built", options=value)
    text = out.text()
    assert PASSWORD not in text
    assert "[redacted]" in text


def test_url_stays_readable_but_for_its_password(out: Out) -> None:
    out.configured().info("client.built", url=f"postgresql://rw:{PASSWORD}@db.example:5432/pipeline")
    assert out.line()["url"] == "postgresql://rw:[redacted]@db.example:5432/pipeline"


def test_event_itself_and_its_arguments_are_redacted(out: Out) -> None:
    out.configured().info("sent to %s", ADDRESS)
    assert "lovelace" not in out.text()


def test_traceback_is_redacted(out: Out) -> None:
    logger = out.configured()
    try:
        fail(f"cannot reach {ADDRESS}")
    except ValueError:
        logger.exception("process.crashed")
    logged = out.line()["exception"]
    assert "Traceback" in logged
    assert "lovelace" not in logged


def test_loggers_of_libraries_go_through_the_same_chain(out: Out) -> None:
    out.configured()
    try:
        fail(f"postgresql://rw:{PASSWORD}@host/db refused {ADDRESS}")
    except ValueError:
        logging.getLogger("sqlalchemy.pool").warning("lost %s", ADDRESS, exc_info=True)
    line = out.line()
    assert (line["level"], line["service"]) == ("warning", "inventory")
    assert "Traceback" in line["exception"]
    assert "lovelace" not in str(line)
    assert PASSWORD not in str(line)


def test_what_is_logged_is_not_changed(out: Out) -> None:
    options = {"sasl.password": PASSWORD, "to": [ADDRESS]}
    out.configured().info("client.built", options=options)
    assert options == {"sasl.password": PASSWORD, "to": [ADDRESS]}


def test_ordinary_values_are_left_alone(out: Out) -> None:
    out.configured().info("batch.committed", records=3, ratio=0.5, parts=["a", 1, None], at={"orders.created[0]": 7})
    line = out.line()
    assert (line["records"], line["ratio"], line["parts"]) == (3, 0.5, ["a", 1, None])
    assert line["at"] == {"orders.created[0]": 7}


def test_lines_below_the_level_are_not_written(out: Out) -> None:
    logger = out.configured(log_level="warning")
    logger.info("batch.committed")
    logging.getLogger("gunicorn").info("booting")
    logger.warning("batch.postponed")
    assert out.line()["event"] == "batch.postponed"


def test_console_format_is_text_for_eyes__redacted_too(out: Out) -> None:
    logger = out.configured(log_format="console")
    try:
        fail(ADDRESS)
    except ValueError:
        logger.exception("mail.refused", to=ADDRESS, password=PASSWORD)
    text = out.text()
    assert "mail.refused" in text
    assert "lovelace" not in text
    assert PASSWORD not in text
    assert "\x1b[" not in text  # no colours into a pipe
