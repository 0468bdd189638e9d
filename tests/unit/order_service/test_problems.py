"""Answers to what never became a request."""

import json
from typing import Any

import pytest
from flask import Flask

from order_service.io.problems import ProblemType, unreadable


def answer(header: str) -> dict[str, Any]:
    with Flask("test").app_context():
        head, _, body = unreadable(ProblemType.BAD_REQUEST, header=header).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    found: dict[str, Any] = json.loads(body)
    return found


@pytest.mark.parametrize(("header", "named"), [("HOST", "Host"), ("CONTENT-TYPE", "Content-Type"), ("X", "X")])
def test_header_that_cannot_be_read_is_named(header: str, named: str) -> None:
    assert [error["field"] for error in answer(header)["errors"]] == [named]


@pytest.mark.parametrize("header", ["", "Authorization Bearer abc", "X: y", "é", "x" * 65])
def test_line_that_is_no_name_is_not_sent_back(header: str) -> None:
    assert "errors" not in answer(header)
