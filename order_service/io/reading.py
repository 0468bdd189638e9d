"""Read requests: once, strictly, and with the name of what does not fit.

What two readers could understand in two ways is refused, however harmless it looks here: a proxy, a log or the client's
own library may have read it the other way. flask-openapi's reader would answer a wrong media type and malformed JSON
with an empty 422, and would build each model's schema per request; so it only describes.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import wraps
from itertools import islice
from typing import Any, NoReturn, TypeAlias, get_type_hints
from urllib.parse import unquote_to_bytes

from flask import Request, Response, request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import RequestEntityTooLarge

from order_service.io.problems import ERRORS_LISTED_MAX, FieldError, Problem, ProblemType, Refused

BODY_BYTES_MAX = 64 * 1024

_BODY, _PATH, _QUERY = "(body)", "(path)", "(query)"
_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")  # of RFC 3986
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UTF_8 = frozenset({"utf-8", "utf8"})
_DIGITS_MAX = 19
_TWICE = "appears more than once"
_Place: TypeAlias = "tuple[_Place, int | str] | None"
_MESSAGES = {"model_type": "Input should be an object", "list_type": "Input should be a valid array"}
"""Of pydantic, in the words of JSON instead of Python's."""


def refuse_ambiguous(asked: Request) -> None:
    """Raise Refused for what no route should ever see: HTTP/1.1 without a proper Host, empty segments in the path."""
    host = asked.environ.get("HTTP_HOST")
    if host is None and asked.environ.get("SERVER_PROTOCOL") == "HTTP/1.1":
        _refuse(FieldError("Host", "is missing: HTTP/1.1 requires it"), kind=ProblemType.BAD_REQUEST)
    if host is not None and not _HOST.fullmatch(host):
        _refuse(FieldError("Host", "is not the name of a host"), kind=ProblemType.BAD_REQUEST)
    if "//" in asked.environ.get("PATH_INFO", ""):  # werkzeug and proxies merge them, each in its own way
        _refuse(FieldError(_PATH, "contains an empty segment: //"), kind=ProblemType.BAD_REQUEST)


def reading(view: Callable[..., Response]) -> Callable[..., Response]:
    """Give the view what its parameters `path`, `query`, `header` and `body` are annotated with.

    Raises Refused for what does not fit, and for a query or a body that the view has no parameter for. flask-openapi
    still reads the annotations for the description; the mark is the one that its own `validate_request` sets to keep it
    from validating.
    """
    sources: dict[str, Callable[[type[Any], Mapping[str, Any], Request], Any]] = {
        "path": lambda model, path, _: _validated(model, path),
        "query": lambda model, _, asked: _validated(model, _read_query(asked)),
        "header": lambda model, _, asked: _validated(model, _headers(model, asked)),
        "body": lambda model, _, asked: _validated(model, _read_body(asked)),
    }
    wanted = [(name, sources[name], model) for name, model in get_type_hints(view).items() if name in sources]
    names = {name for name, _, _ in wanted}

    @wraps(view)
    def read_then_view(**path: Any) -> Response:
        asked = this_request()
        if "query" not in names and (unknown := _read_query(asked)):
            _refuse(*(FieldError(name, "is not a parameter of this address") for name in unknown))
        if "body" not in names and (asked.content_length or "Transfer-Encoding" in asked.headers):
            _refuse(FieldError(_BODY, "is given, but this method takes no body"))
        return view(**{name: source(model, path, asked) for name, source, model in wanted})

    vars(read_then_view)["__delay_validate_request__"] = True
    return read_then_view


def this_request() -> Request:
    """Return the request of this thread itself: each look through Flask's proxy costs as much as a parameter."""
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - werkzeug documents it
    return asked


def _validated(model: type[BaseModel], values: Any) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise Refused(Problem(ProblemType.INVALID_REQUEST, errors=tuple(map(_field_error, details)))) from None


def _headers(model: type[BaseModel], asked: Request) -> dict[str, str]:
    """Return the headers that the model names; one that came twice comes from the server as one, with a comma."""
    names = [field.alias or name for name, field in model.model_fields.items()]
    return {name: value for name in names if (value := asked.headers.get(name)) is not None}


def _read_query(asked: Request) -> dict[str, str]:
    """Return the parameters, each of which came once."""
    found: dict[str, str] = {}
    for part in filter(None, asked.query_string.split(b"&")):
        name, _, value = part.partition(b"=")
        parameter = _decoded(name, field=_QUERY)
        if parameter in found:
            _refuse(FieldError(parameter, _TWICE))
        found[parameter] = _decoded(value, field=parameter)
    return found


def _decoded(text: bytes, *, field: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        _refuse(FieldError(field, "contains a % without two hexadecimal digits"))
    try:
        return unquote_to_bytes(text.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        _refuse(FieldError(field, "is not UTF-8"))


def _read_body(asked: Request) -> Any:
    """Return the JSON of the body; numbers that are not written as integers are Decimal."""
    _refuse_media_type(asked)
    data = asked.get_data(cache=False)
    if len(data) > BODY_BYTES_MAX:  # werkzeug cuts a chunked body off at its own limit, one byte above, in silence
        raise RequestEntityTooLarge
    try:
        value, doubled = _parsed(data.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise Refused(_malformed(error)) from None
    except RecursionError:
        raise Refused(_malformed("it is nested too deeply")) from None
    if doubled:
        _refuse(*(FieldError(field, _TWICE) for field in islice(_fields_twice(value), ERRORS_LISTED_MAX)))
    return value


def _refuse_media_type(asked: Request) -> None:
    errors = []
    if asked.mimetype != "application/json":
        errors.append(FieldError("Content-Type", "Set Content-Type: application/json."))
    elif asked.mimetype_params.get("charset", "utf-8").lower() not in _UTF_8:
        errors.append(FieldError("Content-Type", "Send the body in UTF-8; JSON has no other charset."))
    if asked.headers.get("Content-Encoding", "identity").lower() != "identity":
        errors.append(FieldError("Content-Encoding", "Send the body without a Content-Encoding."))
    if errors:
        _refuse(*errors, kind=ProblemType.UNSUPPORTED_MEDIA_TYPE)


class _Members(dict[str, Any]):
    """An object of JSON, with the names that it has more than once."""

    twice: frozenset[str] = frozenset()


def _parsed(data: bytes) -> tuple[Any, bool]:
    """Return the value, and whether an object in it has a name twice.

    Raises ValueError for what is not JSON by RFC 8259, RecursionError for what is nested too deeply.
    """
    doubled = False

    def members(pairs: list[tuple[str, Any]]) -> _Members:
        nonlocal doubled
        found = _Members(pairs)
        if len(found) < len(pairs):
            doubled = True
            times = Counter(name for name, _ in pairs)
            found.twice = frozenset(name for name in times if times[name] > 1)
        return found

    value = json.loads(
        data.decode(), object_pairs_hook=members, parse_int=_integer, parse_float=_exact, parse_constant=_no_number
    )
    return value, doubled


def _integer(text: str) -> int | Decimal:
    """Return the number; int() would refuse a very long one without naming the field."""
    return int(text) if len(text) <= _DIGITS_MAX else Decimal(text)


def _exact(text: str) -> Decimal | float:
    """Return the number as it is written: as a float, 1.00000000000000000001 would be 1."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits
        return float(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _malformed(error: ValueError | str) -> Problem:
    match error:
        case json.JSONDecodeError():
            words = f"{error.msg} at line {error.lineno}, column {error.colno}"
        case UnicodeDecodeError():
            words = f"it is not UTF-8 from byte {error.start} on"
        case _:
            words = str(error)
    return Problem(ProblemType.MALFORMED_JSON, words, errors=(FieldError(_BODY, words),))


def _fields_twice(value: Any) -> Iterator[str]:
    """Name every member that its object has more than once."""
    waiting: list[tuple[_Place, Any]] = [(None, value)]
    while waiting:
        at, part = waiting.pop()
        if isinstance(part, _Members):
            yield from (_field(_location((at, name))) for name in sorted(part.twice))
        inside = part.items() if isinstance(part, dict) else enumerate(part)
        # A place is a link to the one around it: written out for each part, 64 KiB of JSON could fill a hundred MiB.
        waiting += [((at, name), child) for name, child in inside if isinstance(child, dict | list)]


def _location(place: _Place) -> list[int | str]:
    found: list[int | str] = []
    while place is not None:
        place, name = place
        found.append(name)
    return found[::-1]


def _field_error(detail: ErrorDetails) -> FieldError:
    return FieldError(_field(detail["loc"]), _MESSAGES.get(detail["type"], detail["msg"]))


def _field(location: Sequence[int | str]) -> str:
    """Name the field as a reader of JSON would: ("lines", 0, "quantity") -> lines[0].quantity."""
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    return field or _BODY


def _refuse(*errors: FieldError, kind: ProblemType = ProblemType.INVALID_REQUEST) -> NoReturn:
    raise Refused(Problem(kind, errors=errors))
