"""Structured logs on standard output: one JSON object per line, secrets and addresses redacted.

Event names are `noun.verb_past`. Standard-library loggers (gunicorn, SQLAlchemy, librdkafka) go through the same
chain.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog

from common.config import Settings

_SECRET_KEYS = re.compile(r"password|secret|token|authorization|credential", re.IGNORECASE)
_E_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_URL_PASSWORD = re.compile(r"(\w+://[^:/@\s]+):[^@\s]+@")


def configure(settings: Settings, *, service: str, **bound: Any) -> None:
    """Set up logging for this process; `bound` (slot, say) goes onto every line, whichever thread writes it."""

    def bind(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**event, "service": service, **bound}  # context variables would stay behind in this thread

    chain: list[Any] = [
        bind,
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*chain, renderer],
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),  # by way of the standard library twice as dear
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("httpx2").setLevel(max(level, logging.WARNING))  # one line per request to the registry is noise


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must not reach a log: values under secret names, passwords in URLs, e-mail addresses."""
    for key, value in event.items():
        if not key.startswith("_"):  # structlog's own: the standard library's record
            event[key] = _clean(key, value)
    return event


def _clean(name: object, value: Any) -> Any:
    """Return the value, or a copy without what must not be logged; what is no plain value is logged by its repr."""
    if _is_secret(name):
        return "[redacted]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _clean(key, each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", each) for each in value]
    text = value if isinstance(value, str) else repr(value)
    if "@" not in text:  # neither of the two
        return text
    return _E_MAIL.sub("[address]", _URL_PASSWORD.sub(r"\1:[redacted]@", text))


@lru_cache(maxsize=1024)  # names stand in the code
def _is_secret(name: object) -> bool:
    return _SECRET_KEYS.search(str(name)) is not None


def get_logger() -> structlog.stdlib.BoundLogger:
    """Return the logger to use at module level; binding happens in `configure`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger()
    return logger
