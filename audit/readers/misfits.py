"""What a record says twice: its key and headers against its value. Pure; written from the contract, not from the code.

A record of `orders.created` may come from any producer: a header that it leaves out is none that contradicts.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from audit.books import Verdict
from common.topics import NOTIFICATION_SENT

Headers = Mapping[str, str]

ALWAYS = {"ce_specversion": "1.0", "content-type": "application/avro"}
DEAD_LETTER_VERSION = "1"


def of_order(key: bytes | None, event: Mapping[str, Any], headers: Headers) -> Iterator[str]:
    """Yield what key and headers of an order's record say otherwise than its value."""
    yield from _key(key, event["user_id"])
    expected = {
        "ce_id": event["order_id"],
        "ce_type": "order.created",
        "ce_time": time_of(event["placed_at"]),
        **ALWAYS,
    }
    yield from _headers(headers, {name: value for name, value in expected.items() if name in headers})


def of_outcome(key: bytes | None, event: Mapping[str, Any], headers: Headers, verdict: Verdict) -> Iterator[str]:
    """Yield the same of an outcome; its event id and its source are compared with the decision instead."""
    yield from _key(key, event["user_id"])
    expected = {"ce_type": verdict.value, "ce_source": "/inventory", "ce_time": time_of(event["decided_at"])}
    yield from _headers(headers, {**expected, **ALWAYS})


def of_sent(key: bytes | None, event: Mapping[str, Any], headers: Headers) -> Iterator[str]:
    """Yield the same of a notification."""
    yield from _key(key, event["user_id"])
    expected = {"ce_id": event["event_id"], "ce_type": NOTIFICATION_SENT.name, "ce_source": "/notification"}
    yield from _headers(headers, {**expected, "ce_time": time_of(event["sent_at"]), **ALWAYS})


def of_partial(key: bytes | None, event: Mapping[str, Any], headers: Headers) -> Iterator[str]:
    """Yield the same of a partial count; its orders are late one and all, or none is."""
    name = f"{event['topic']}/{event['partition']}/{_minute(event['minute'])}"
    yield from _key(key, name)
    end = f"{event['until']}/{'late' if event['late'] else 'on-time'}"
    yield from _headers(headers, {"ce_id": f"{name}/{end}", "ce_type": "metrics.partial", **_METRICS})
    if event["late"] not in (0, event["reserved"] + event["failed"]):
        yield f"{event['late']} of {event['reserved'] + event['failed']} orders are late"


def of_total(key: bytes | None, event: Mapping[str, Any], headers: Headers) -> Iterator[str]:
    """Yield the same of a minute's total."""
    name = _minute(event["minute"])
    yield from _key(key, name)
    yield from _headers(headers, {"ce_id": f"{name}/{event['revision']}", "ce_type": "metrics.minute", **_METRICS})


def of_dead_letter(headers: Headers) -> Iterator[str]:
    """Yield what is wrong with the headers that a dead letter was given."""
    if headers.get("dlq_version", DEAD_LETTER_VERSION) != DEAD_LETTER_VERSION:
        yield f"header dlq_version is {headers['dlq_version']!r}, not {DEAD_LETTER_VERSION!r}"


@lru_cache(maxsize=4096)  # events of a batch share their time
def time_of(time_ms: int) -> str:
    """Return a time as headers have it."""
    if not 0 <= time_ms < _YEAR_10000_MS:
        return "no time"
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")


def _minute(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(key: bytes | None, wanted: str) -> Iterator[str]:
    if key != wanted.encode():
        said = "none" if key is None else repr(key.decode(errors="replace"))
        yield f"its key is {said}, its value says {wanted!r}"


def _headers(headers: Headers, wanted: Headers) -> Iterator[str]:
    for name, value in wanted.items():
        if headers.get(name) != value:
            yield f"header {name} is {headers.get(name)!r}, its value says {value!r}"


_METRICS = {"ce_source": "/metrics", **ALWAYS}
_YEAR_10000_MS = 253_402_300_800_000
