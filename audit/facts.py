"""Facts of the books <-> what a memory keeps of them: JSON, in the order of their fields. Pure."""

import json
from collections.abc import Callable
from sys import intern
from typing import Any

from audit.books import (
    Created,
    DeadLetter,
    Lacking,
    Misfit,
    Outcome,
    Partial,
    Poison,
    Sent,
    Total,
    Undecodable,
    Verdict,
)
from audit.readers.collector import shared
from audit.terms import Coordinate, Spot
from common.topics import NOTIFICATION_SENT, ORDERS_CREATED

Fact = Created | Outcome | Sent

KEPT: dict[type[Any], tuple[str, ...]] = {
    Created: ("digest", "lines", "user", "placed_at", "request", "asked"),
    Outcome: ("event_id", "header_id", "digest", "user", "lines", "placed_at", "decided_at", "lacking"),
    Sent: ("event_id", "kind", "channel", "user", "sent_at"),
}
"""The fields of a record that stand in its body; all others have columns of their own."""
_BYTES = {"digest", "request", "value", "headers"}
_PLACES: dict[str, Callable[..., Any]] = {
    "at": Coordinate,
    "lacking": Lacking,
    "missing": lambda *names: names,
    "asked": lambda *lines: shared([(sku, quantity) for sku, quantity in lines]),
}


def body_of(fact: Any) -> str:
    """Return what is kept of a fact."""
    names = KEPT.get(type(fact), type(fact)._fields)
    plain = [value.hex() if isinstance(value := getattr(fact, name), bytes) else value for name in names]
    return json.dumps(plain, separators=(",", ":"))


def fact_of(
    topic: str,
    partition: int,
    offset: int,
    order_id: str,
    source_topic: str | None,
    source_partition: int,
    source_offset: int,
    minute: int,
    units: int,
    body: str,
) -> tuple[str, Fact]:
    """Return the fact of a record, and under which name a collector keeps it."""
    order_id = intern(order_id)
    place: dict[str, Any] = {"partition": partition, "offset": offset, "order_id": order_id}
    source = None if source_topic is None else Coordinate(intern(source_topic), source_partition, source_offset)
    if topic == ORDERS_CREATED.name:
        return "created", Created(**place, **_fields(Created, json.loads(body)))
    if topic == NOTIFICATION_SENT.name:
        return "sent", Sent(**place, source=source, **_fields(Sent, json.loads(body)))
    fields = _fields(Outcome, json.loads(body))
    return "outcomes", Outcome(verdict=Verdict(topic), **place, source=source, minute=minute, units=units, **fields)


LISTED: dict[str, type[Any]] = {
    "poison": Poison,
    "partials": Partial,
    "totals": Total,
    "dead_letters": DeadLetter,
    "undecodable": Undecodable,
    "misfits": Misfit,
}
"""What a collector keeps in lists, by the name of the list."""


def listed_of(kind: str, values: list[Any]) -> Any:
    """Return the fact that one of the lists held."""
    fact = LISTED[kind]
    fields = _fields(fact, values)
    if "source" in fields and fields["source"] is not None:
        fields["source"] = (Spot if fact is Partial else Coordinate)(*fields["source"])
    return fact(**fields)


def _fields(fact: type[Any], values: list[Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in zip(KEPT.get(fact, fact._fields), values, strict=True)}


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _BYTES:
        return bytes.fromhex(value)
    return _PLACES[name](*value) if name in _PLACES else value
