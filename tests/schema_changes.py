"""Changes of a schema, good and bad, by the rules they break: for our verdict, and for a registry's."""

import json
from dataclasses import dataclass
from typing import Any

from deploy.schemas.compatibility import Rule

Avro = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """From one schema to another. `rules`: what it breaks; `ours_alone`: registries let it pass."""

    name: str
    older: str
    newer: str
    rules: frozenset[Rule]
    ours_alone: bool = False


def record(*fields: Avro, name: str = "Parcel", **more: object) -> Avro:
    return {"type": "record", "name": name, "namespace": "shop.v1", "fields": list(fields), **more}


def field(name: str, kind: object = "string", **more: object) -> Avro:
    return {"name": name, "type": kind, **more}


ID = field("id")
LINE = record(field("sku"), field("quantity", "int"), name="Line")
COLOURS = {"type": "enum", "name": "Colour", "symbols": ["other", "red"]}


def _enum(*symbols: str, **more: object) -> Avro:
    return {**COLOURS, "symbols": list(symbols), **more}


def _lines(line: Avro) -> Avro:
    return field("lines", {"type": "array", "items": line})


def _change(name: str, older: Avro, newer: Avro, *rules: Rule, ours_alone: bool = False) -> Change:
    return Change(name, json.dumps(older), json.dumps(newer), frozenset(rules), ours_alone)


NO_DEFAULT = Rule.READER_FIELD_MISSING_DEFAULT_VALUE
OPTIONAL = ["null", "string"]
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}

GOOD = (
    _change("the same", record(ID), record(ID)),
    _change("field with a default added", record(ID), record(ID, field("x", default=""))),
    _change("field with a default removed", record(ID, field("x", default="")), record(ID)),
    _change("optional field added", record(ID), record(ID, field("x", OPTIONAL, default=None))),
    _change("fields reordered", record(ID, field("x")), record(field("x"), ID)),
    _change("doc changed", record(ID, doc="a"), record(ID, doc="b")),
    _change("default changed", record(field("x", default="a")), record(field("x", default="b"))),
    _change(
        "nested field with a default added",
        record(_lines(LINE)),
        record(_lines({**LINE, "fields": [*LINE["fields"], field("gift", "boolean", default=False)]})),
    ),
    _change(
        "enum symbol added, enum has a default",
        record(field("c", _enum("other", "red", default="other"))),
        record(field("c", _enum("other", "red", "blue", default="other"))),
    ),
    _change("one type becomes a union of it", record(field("x")), record(field("x", ["string"]))),
    _change("namespace changed", record(ID), {**record(ID), "namespace": "shop.v2"}),
)
BAD = (
    _change("field without a default added", record(ID), record(ID, field("x")), NO_DEFAULT),
    _change("field without a default removed", record(ID, field("x")), record(ID), NO_DEFAULT),
    _change("field renamed", record(ID, field("x")), record(ID, field("y")), NO_DEFAULT),
    _change("field renamed with an alias", record(field("x")), record(field("y", aliases=["x"])), NO_DEFAULT),
    _change("default taken away, field gone", record(ID, field("x", default="")), record(field("y")), NO_DEFAULT),
    _change("int becomes long", record(field("x", "int")), record(field("x", "long")), Rule.TYPE_MISMATCH),
    _change("long becomes int", record(field("x", "long")), record(field("x", "int")), Rule.TYPE_MISMATCH),
    _change("string becomes int", record(field("x")), record(field("x", "int")), Rule.TYPE_MISMATCH),
    _change("text becomes a list", record(field("x")), record(_lines(LINE) | {"name": "x"}), Rule.TYPE_MISMATCH),
    _change(
        "nested field without a default added",
        record(_lines(LINE)),
        record(_lines({**LINE, "fields": [*LINE["fields"], field("gift", "boolean")]})),
        NO_DEFAULT,
    ),
    _change(
        "type changed in a list",
        record(_lines(LINE)),
        record(_lines({**LINE, "fields": [field("sku"), field("quantity", "double")]})),
        Rule.TYPE_MISMATCH,
    ),
    _change(
        "type changed in a map",
        record(field("x", {"type": "map", "values": "int"})),
        record(field("x", {"type": "map", "values": "string"})),
        Rule.TYPE_MISMATCH,
    ),
    _change(
        "enum symbol added, enum has no default",
        record(field("c", _enum("other", "red"))),
        record(field("c", _enum("other", "red", "blue"))),
        Rule.MISSING_ENUM_SYMBOLS,
    ),
    _change(
        "enum symbol removed, enum has no default",
        record(field("c", _enum("other", "red"))),
        record(field("c", _enum("other"))),
        Rule.MISSING_ENUM_SYMBOLS,
    ),
    _change("field made optional", record(field("x")), record(field("x", OPTIONAL)), Rule.TYPE_MISMATCH),
    _change(
        "branch of a union changed",
        record(field("x", ["null", "string"], default=None)),
        record(field("x", ["null", "int"], default=None)),
        Rule.MISSING_UNION_BRANCH,
    ),
    _change(
        "branch of a union added",
        record(field("x", ["null", "string"], default=None)),
        record(field("x", ["null", "string", "int"], default=None)),
        Rule.MISSING_UNION_BRANCH,
    ),
    _change("record renamed", record(ID), record(ID, name="Packet"), Rule.NAME_MISMATCH),
    _change(
        "enum renamed",
        record(field("c", _enum("red"))),
        record(field("c", {**_enum("red"), "name": "Shade"})),
        Rule.NAME_MISMATCH,
    ),
    _change(
        "fixed grows",
        record(field("x", {"type": "fixed", "name": "Hash", "size": 16})),
        record(field("x", {"type": "fixed", "name": "Hash", "size": 32})),
        Rule.FIXED_SIZE_MISMATCH,
    ),
    _change(
        "string becomes bytes",
        record(field("x")),
        record(field("x", "bytes")),
        Rule.TYPE_MISMATCH,
        ours_alone=True,
    ),
    _change(
        "milliseconds become microseconds",
        record(field("at", MILLIS)),
        record(field("at", {**MILLIS, "logicalType": "timestamp-micros"})),
        Rule.LOGICAL_TYPE_CHANGED,
        ours_alone=True,
    ),
)
