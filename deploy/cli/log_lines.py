"""A line of a log, for a person or for a script. Pure."""

import json
from collections.abc import Mapping
from typing import Any

import structlog

_SAID_BY_THE_PROCESS = ("service", "slot")
"""Every line of a process has them, and the log is the process's."""


def as_json(process: str, line: str) -> str:
    """Return one JSON object: the fields that one of our processes wrote, or else the text as `line`."""
    fields = _fields(line)
    return json.dumps({"process": process, **(fields if fields is not None else {"line": line})})


def readable(line: str, *, colors: bool) -> str:
    """Return the line as a person reads it: time of day, level, what happened, the rest as name=value.

    What is no object of ours (a server's line, a traceback) stays as it is.
    """
    fields = _fields(line)
    if fields is None:
        return line
    shown = {name: value for name, value in fields.items() if name not in _SAID_BY_THE_PROCESS}
    shown["timestamp"] = _time_of_day(str(fields.get("timestamp", "")))
    render = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, pad_event_to=0)
    return str(render(None, "", shown))


def _fields(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return dict(fields) if isinstance(fields, Mapping) and "event" in fields else None


def _time_of_day(timestamp: str) -> str:
    """Return hours to milliseconds of an ISO time in UTC, or the text itself."""
    _, t, clock = timestamp.partition("T")
    return clock.rstrip("Z")[: len("12:03:04.123")] if t else timestamp
