"""Derive how an event and its Avro record become each other, from the event's class and its newest schema. Pure.

A field has the same name in both, except for a point in time: `placed_at` of the schema is `placed_at_ms` of the class.
An enum is its symbol, an array of records a tuple of named tuples. A field that only one side has is an error, so a
schema and its class cannot come apart.

Each function is compiled once from one expression, as `dataclasses` compiles its own methods. It costs what the same
expression written by hand costs; a loop over the fields would cost three times as much per encoded event.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

Avro = dict[str, Any]


def from_avro(event: type[Any], schema: Avro) -> Callable[[Avro], Any]:
    """Return the function that builds the event from a record of this schema. Raises TypeError where the two differ."""
    values = {attribute: _read(name, hint) for name, attribute, hint in _paired(event, schema)}
    arguments = ", ".join(f"{attribute}={value}" for attribute, value in values.items())
    return _compiled(f"lambda avro: event({arguments})", event)


def to_avro(event: type[Any], schema: Avro) -> Callable[[Any], Avro]:
    """Return the function that builds a record of this schema from the event."""
    members = ", ".join(f"{name!r}: {_written(attribute, hint)}" for name, attribute, hint in _paired(event, schema))
    return _compiled(f"lambda value: {{{members}}}", event)


def _paired(event: type[Any], schema: Avro) -> list[tuple[str, str, Any]]:
    """Return (field of the schema, attribute of the class, its type), in the schema's order."""
    hints = get_type_hints(event)
    names = [each["name"] for each in schema["fields"]]
    pairs = [(name, f"{name}_ms" if f"{name}_ms" in hints else name) for name in names]
    if unmatched := hints.keys() ^ {attribute for _, attribute in pairs}:
        raise TypeError(f"{event.__name__} and its schema differ in {', '.join(sorted(unmatched))}")
    return [(name, attribute, hints[attribute]) for name, attribute in pairs]


def _read(name: str, hint: Any) -> str:
    if item := _item(hint):
        members = ", ".join(f"each[{member!r}]" for member in item._fields)
        return f"tuple([{item.__name__}({members}) for each in avro[{name!r}]])"
    return f"{hint.__name__}(avro[{name!r}])" if _is_enum(hint) else f"avro[{name!r}]"


def _written(attribute: str, hint: Any) -> str:
    if item := _item(hint):
        members = ", ".join(f"{member!r}: each.{member}" for member in item._fields)
        return f"[{{{members}}} for each in value.{attribute}]"
    return f"value.{attribute}.value" if _is_enum(hint) else f"value.{attribute}"


def _item(hint: Any) -> Any:
    """Return the named tuple of a `tuple[Item, ...]`, or None."""
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Enum)


def _compiled(source: str, event: type[Any]) -> Callable[[Any], Any]:
    """Return the function of this source; every name in it is one of our own classes and schemas."""
    hints = get_type_hints(event).values()
    named = [item for hint in hints if (item := _item(hint) or (hint if _is_enum(hint) else None))]
    function: Callable[[Any], Any] = eval(source, {"event": event, **{each.__name__: each for each in named}})  # noqa: S307 - see above
    return function
