"""What the API answers when it does not do what was asked: RFC 9457, one table of problem types.

Nothing about the inside leaves: no traceback, no SQL, no input echoed beyond the name of its field.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus

import uuid_utils
from flask import Flask, Response, g
from flask_openapi.types import ResponseDict
from werkzeug.exceptions import HTTPException

from common.log import get_logger
from onceloop.errors import Busy

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
ERRORS_LISTED_MAX = 20
FIELD_LENGTH_MAX = 256
"""The client chose the name of an unknown member; twenty times that of 60 KiB would be no answer."""
_HEADER_NAME = re.compile("[A-Za-z0-9-]{1,64}")
_BAD_REQUEST = 400
_SERVER_ERROR = 500
_REQUEST_ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c50"

log = get_logger()


class ProblemType(Enum):
    """Name (the end of the type URI), status and title of each."""

    MALFORMED_JSON = ("malformed-json", 400, "The body is not JSON")
    INVALID_REQUEST = ("invalid-request", 400, "The request does not fit its description")
    BAD_REQUEST = ("bad-request", 400, "The request cannot be understood")
    ORDER_UNKNOWN = ("order-unknown", 404, "There is no such order")
    NOT_FOUND = ("not-found", 404, "There is nothing at this address")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "This address does not take that method")
    TOO_SLOW = ("too-slow", 408, "The request came too slowly")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    URI_TOO_LONG = ("uri-too-long", 414, "The address is too long")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", 415, "The body must be application/json")
    KEY_CONFLICT = ("idempotency-key-conflict", 422, "The Idempotency-Key belongs to another request")
    HEADERS_TOO_LARGE = ("headers-too-large", 431, "The headers are too large")
    INTERNAL = ("internal", 500, "The service failed")
    NOT_ACCEPTED = ("not-accepted", 503, "The order was not accepted")
    OUTCOME_UNKNOWN = ("outcome-unknown", 503, "The order may or may not have been accepted")
    UNAVAILABLE = ("unavailable", 503, "The service cannot do this now")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.slug = slug
        self.status = status
        self.title = title

    @property
    def uri(self) -> str:
        """Return the type URI: a name to compare with, not an address to fetch."""
        return f"urn:order-pipeline:problem:{self.slug}"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field, named as in `lines[0].quantity`; headers and parameters by their own names."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer."""

    type: ProblemType
    detail: str = ""
    errors: tuple[FieldError, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):  # noqa: N818 - the request is refused; nothing is broken
    """The request could not be read; carries the answer to the rim."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.type.slug)
        self.problem = problem


def new_request_id() -> str:
    """Return what an answer and its log line have in common."""
    return str(uuid_utils.uuid7())


def unreadable(kind: ProblemType, *, header: str = "") -> bytes:
    """Return the whole HTTP answer to what never became a request; the connection ends with it.

    `header`: the one that the server could not read, if it was one; named if that is a name, and not the whole line.
    """
    g.request_id = new_request_id()
    log.debug("request.unreadable", status=kind.status, request_id=g.request_id)  # counted; strangers send many
    named = _HEADER_NAME.fullmatch(header)
    errors = (FieldError(header.title(), "is malformed or repeated"),) if named else ()
    response = respond(Problem(kind, errors=errors))
    head = [f"HTTP/1.1 {response.status}", "Connection: close", f"X-Request-Id: {g.request_id}"]
    head += [f"{name}: {value}" for name, value in response.headers]
    return "\r\n".join([*head, "", ""]).encode() + response.get_data()


def respond(problem: Problem) -> Response:
    """Return the HTTP response; a 503 says when to come again."""
    body = {
        "type": problem.type.uri,
        "title": problem.type.title,
        "status": problem.type.status,
        "detail": problem.detail,
        "errors": [
            {"field": error.field[:FIELD_LENGTH_MAX], "message": error.message}
            for error in problem.errors[:ERRORS_LISTED_MAX]
        ],
        "request_id": g.get("request_id", ""),
    }
    response = Response(
        json.dumps({member: value for member, value in body.items() if value}) + "\n",
        problem.type.status,
        problem.headers,
        mimetype=MEDIA_TYPE,
    )
    if problem.type.status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def described(*statuses: int) -> ResponseDict:
    """Return the OpenAPI description of these answers, with an example of each problem that comes with the status.

    The component is the model of a problem.
    """
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    answers: ResponseDict = {}
    for status in statuses:
        kinds = [kind for kind in ProblemType if kind.status == status]
        examples = {kind.slug: {"summary": kind.title, "value": _example(kind)} for kind in kinds}
        answers[status] = {
            "description": "; ".join(kind.title for kind in kinds),
            "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }
    return answers


def _example(kind: ProblemType) -> dict[str, object]:
    return {"type": kind.uri, "title": kind.title, "status": kind.status, "request_id": _REQUEST_ID}


def register(app: Flask) -> None:
    """Answer every error of the application with a problem."""
    app.register_error_handler(Refused, _on_refused)
    app.register_error_handler(Busy, _on_busy)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(Exception, _on_error)


_BY_STATUS = {
    404: ProblemType.NOT_FOUND,
    405: ProblemType.METHOD_NOT_ALLOWED,
    413: ProblemType.TOO_LARGE,
    415: ProblemType.UNSUPPORTED_MEDIA_TYPE,
}
_FRAMING_HEADERS = {"content-type", "content-length"}


def _on_refused(refused: Refused) -> Response:
    return respond(refused.problem)


def _on_busy(busy: Busy) -> Response:
    log.warning("request.postponed", reason=str(busy))
    return respond(
        Problem(
            ProblemType.UNAVAILABLE, "Something that it needs does not answer. This attempt did nothing; try again."
        )
    )


def _on_http(error: HTTPException) -> Response:
    status = error.code or _SERVER_ERROR
    if status < _BAD_REQUEST:  # a redirect is an exception, but no problem
        return Response(error.get_body(), status, error.get_headers())
    kind = _BY_STATUS.get(status, ProblemType.BAD_REQUEST if status < _SERVER_ERROR else ProblemType.INTERNAL)
    kept = tuple((name, value) for name, value in error.get_headers() if name.lower() not in _FRAMING_HEADERS)
    return respond(Problem(kind, headers=kept))  # Allow, above all


def _on_error(error: Exception) -> Response:
    log.error("request.failed", error=type(error).__name__, exc_info=error)
    return respond(
        Problem(ProblemType.INTERNAL, "Nothing is known about the cause here; the request id helps to find it.")
    )
