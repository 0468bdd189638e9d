"""Describe a record schema's fields in words, and how two versions differ. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Avro = Any


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One field. `path`: with those around it, as in `lines[].sku`; `default`: as JSON, empty if it has none."""

    path: str
    type: str
    default: str
    doc: str

    @property
    def kind(self) -> str:
        """Return type and default together."""
        return f"{self.type} = {self.default}" if self.default else self.type


def fields(text: str) -> tuple[SchemaField, ...]:
    """Return every field of a schema, nested ones after their parent."""
    return tuple(_fields(json.loads(text), ""))


def changes(older: str, newer: str) -> tuple[str, ...]:
    """Return one line per field that came (+), changed (~) or went (-), in the order of the schemas."""
    before, after = ({field.path: field.kind for field in fields(text)} for text in (older, newer))
    came = [f"+ {path}: {kind}" for path, kind in after.items() if path not in before]
    changed = [f"~ {path}: {was} -> {after[path]}" for path, was in before.items() if after.get(path, was) != was]
    went = [f"- {path}: {kind}" for path, kind in before.items() if path not in after]
    return (*came, *changed, *went)


def type_name(schema: Avro) -> str:
    """Return a type in a few words."""
    match schema:
        case [*branches]:
            name = " | ".join(type_name(branch) for branch in branches)
        case {"type": "array", "items": items}:
            name = f"list of {type_name(items)}"
        case {"type": "map", "values": values}:
            name = f"map of {type_name(values)}"
        case {"type": "enum", "symbols": symbols, **rest}:
            name = " | ".join(symbols) + (f", unknown ones read as {rest['default']}" if "default" in rest else "")
        case {"name": full_name}:
            name = str(full_name).rpartition(".")[2]
        case {"type": kind, "logicalType": logical}:
            name = f"{type_name(kind)} ({logical})"
        case {"type": kind}:
            name = type_name(kind)
        case _:
            name = str(schema).rpartition(".")[2]
    return name


def _fields(schema: Avro, at: str) -> Iterator[SchemaField]:
    match schema:
        case {"type": "record", "fields": described}:
            for field in described:
                path = f"{at}.{field['name']}".removeprefix(".")
                default = json.dumps(field["default"]) if "default" in field else ""
                yield SchemaField(path, type_name(field["type"]), default, field.get("doc", ""))
                yield from _fields(field["type"], path)
        case {"type": "array", "items": items}:
            yield from _fields(items, f"{at}[]")
        case {"type": "map", "values": values}:
            yield from _fields(values, f"{at}{{}}")
        case [*branches]:
            for branch in branches:
                yield from _fields(branch, at)
