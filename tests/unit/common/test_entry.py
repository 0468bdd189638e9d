"""How a process ends: one reason reported, one exit code."""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest
import structlog

from common import log
from common.config import Settings
from common.entry import run_process
from onceloop.errors import Busy, ConfigError, ExitCode, FatalError, ReportedError


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def exit_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)


def raising(error: Exception) -> Callable[[], NoReturn]:
    def body() -> NoReturn:
        log.configure(Settings(), service="test")
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FatalError("fenced"), ExitCode.UNAVAILABLE),
        (ReportedError("schema missing", cure="run provision"), ExitCode.SOFTWARE),
        (Busy("PostgreSQL"), ExitCode.UNAVAILABLE),
        (KeyError("unforeseen"), ExitCode.SOFTWARE),
    ],
)
def test_end_is_reported_in_one_log_line_and_its_code(
    error: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_process(raising(error))
    assert ended.value.code == code
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"] in {"process.ended", "process.crashed"}


def test_wrong_settings_are_reported_on_standard_error__without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_process(raising(ConfigError("PIPELINE_SLOT: is not set", cure="set it")))
    assert ended.value.code == ExitCode.CONFIG
    assert capsys.readouterr().err == "PIPELINE_SLOT: is not set\nset it\n"


def test_unforeseen_end_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_process(raising(KeyError("unforeseen")))
    assert "Traceback" in json.loads(capsys.readouterr().out)["exception"]


def test_body_that_returns_ends_well() -> None:
    with pytest.raises(SystemExit) as ended:
        run_process(lambda: None)
    assert ended.value.code == ExitCode.OK
