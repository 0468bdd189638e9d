"""Say whether readers of one schema understand what writers of another wrote, and name the rule if not. Pure.

The rules are Avro's own for schema resolution, under the names that Avro's Java library and most registries print, so
that a verdict here and a registry's refusal read alike. Twice ours is stricter: milliseconds that turn into
microseconds resolve without complaint (LOGICAL_TYPE_CHANGED), and bytes are no string. Both directions are looked at:
new readers meet old records, and while a release rolls out or back, old readers meet new ones.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import fastavro

Avro = Any

_PROMOTIONS = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "bytes": {"string"},
}
"""Reader -> writers. Avro would also read bytes as a string; they need not be one, and decoding then fails."""


class Rule(StrEnum):
    """What a change may break."""

    NAME_MISMATCH = "NAME_MISMATCH"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    FIXED_SIZE_MISMATCH = "FIXED_SIZE_MISMATCH"
    MISSING_ENUM_SYMBOLS = "MISSING_ENUM_SYMBOLS"
    MISSING_UNION_BRANCH = "MISSING_UNION_BRANCH"
    READER_FIELD_MISSING_DEFAULT_VALUE = "READER_FIELD_MISSING_DEFAULT_VALUE"
    LOGICAL_TYPE_CHANGED = "LOGICAL_TYPE_CHANGED"


@dataclass(frozen=True, slots=True)
class Break:
    """One broken rule, in words that end with its name."""

    rule: Rule
    what: str

    def __str__(self) -> str:
        return f"{self.what}: {self.rule}"


@dataclass(frozen=True, slots=True)
class _Schema:
    root: Avro
    named: dict[str, Avro]

    def resolve(self, schema: Avro) -> Avro:
        """Return the definition behind a name; a name that is none of ours is a primitive type."""
        return self.named.get(schema, schema) if isinstance(schema, str) else schema


def breaks(older: str, newer: str) -> tuple[Break, ...]:
    """Return what a change from one schema to the other breaks, in either direction, each once.

    Raises what fastavro raises for a text that is no schema.
    """
    old, new = _parsed(older), _parsed(newer)
    found = [*_Reading(reader=new, writer=old, newer_reads=True).breaks()]
    found += _Reading(reader=old, writer=new, newer_reads=False).breaks()
    return tuple(dict.fromkeys(found))


def _parsed(text: str) -> _Schema:
    named: dict[str, Avro] = {}
    return _Schema(fastavro.parse_schema(json.loads(text), named_schemas=named), named)


class _Reading:
    """One schema reads what the other wrote."""

    def __init__(self, *, reader: _Schema, writer: _Schema, newer_reads: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._newer_reads = newer_reads
        self._met: set[tuple[str, str]] = set()

    def breaks(self) -> Iterator[Break]:
        return self._compare(self._reader.root, self._writer.root, "")

    def _compare(self, reader: Avro, writer: Avro, path: str) -> Iterator[Break]:
        reader, writer = self._reader.resolve(reader), self._writer.resolve(writer)
        kind, written = _kind(reader), _kind(writer)
        if written == "union":
            yield from self._every_branch(reader, writer, path)
        elif kind == "union":
            if not any(self._reads(branch, writer, path) for branch in reader):
                yield self._no_branch(reader, writer, path)
        elif kind != written:
            if written not in _PROMOTIONS.get(kind, ()):
                older, newer = (written, kind) if self._newer_reads else (kind, written)
                yield Break(Rule.TYPE_MISMATCH, f"{_at(path)} changes its type from {older} to {newer}")
        else:
            yield from self._same_kind(kind, reader, writer, path)

    def _same_kind(self, kind: str, reader: Avro, writer: Avro, path: str) -> Iterator[Break]:
        if kind in {"record", "enum", "fixed"}:
            if (reader["name"], writer["name"]) in self._met:
                return
            self._met.add((reader["name"], writer["name"]))
            if not _same_name(reader, writer):
                yield Break(Rule.NAME_MISMATCH, f"{_at(path)} is named both {_both(reader['name'], writer['name'])}")
        if _logical(reader) != _logical(writer):
            meant = _both(_logical(reader) or "plain", _logical(writer) or "plain")
            yield Break(Rule.LOGICAL_TYPE_CHANGED, f"{_at(path)} means both {meant}")
        match kind:
            case "record":
                yield from self._fields(reader, writer, path)
            case "enum":
                yield from self._symbols(reader, writer, path)
            case "fixed" if reader["size"] != writer["size"]:
                sizes = _both(reader["size"], writer["size"])
                yield Break(Rule.FIXED_SIZE_MISMATCH, f"{_at(path)} has both {sizes} bytes")
            case "array":
                yield from self._compare(reader["items"], writer["items"], f"{path}[]")
            case "map":
                yield from self._compare(reader["values"], writer["values"], f"{path}{{}}")

    def _fields(self, reader: Avro, writer: Avro, path: str) -> Iterator[Break]:
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            names = (field["name"], *field.get("aliases", ()))
            match = next((written[name] for name in names if name in written), None)
            at = f"{path}.{field['name']}".removeprefix(".")
            if match is not None:
                yield from self._compare(field["type"], match["type"], at)
            elif "default" not in field:
                change = "added without a default" if self._newer_reads else "removed, but had no default"
                yield Break(Rule.READER_FIELD_MISSING_DEFAULT_VALUE, f"{_at(at)} {change}")

    def _symbols(self, reader: Avro, writer: Avro, path: str) -> Iterator[Break]:
        unknown = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if unknown and "default" not in reader:
            who = "newer" if self._newer_reads else "older"
            yield Break(
                Rule.MISSING_ENUM_SYMBOLS,
                f"{_at(path)} has no default, and {who} readers do not know {', '.join(unknown)}",
            )

    def _every_branch(self, reader: Avro, writer: Avro, path: str) -> Iterator[Break]:
        """A writer may have taken any of its branches."""
        for branch in writer:
            if _kind(reader) == "union":
                if not any(self._reads(each, branch, path) for each in reader):
                    yield self._no_branch(reader, branch, path)
            else:
                yield from self._compare(reader, branch, path)

    def _no_branch(self, reader: Avro, written: Avro, path: str) -> Break:
        branches = " | ".join(_named(branch) for branch in reader)
        who = "newer" if self._newer_reads else "older"
        return Break(
            Rule.MISSING_UNION_BRANCH, f"{_at(path)} may hold {_named(written)}, but {who} readers take {branches}"
        )

    def _reads(self, reader: Avro, writer: Avro, path: str) -> bool:
        probe = _Reading(reader=self._reader, writer=self._writer, newer_reads=self._newer_reads)
        probe._met |= self._met
        return next(probe._compare(reader, writer, path), None) is None


def _kind(schema: Avro) -> str:
    if isinstance(schema, list):
        return "union"
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def _logical(schema: Avro) -> str:
    return str(schema.get("logicalType", "")) if isinstance(schema, dict) else ""


def _named(schema: Avro) -> str:
    return str(schema["name"]).rpartition(".")[2] if isinstance(schema, dict) and "name" in schema else _kind(schema)


def _same_name(reader: Avro, writer: Avro) -> bool:
    """Avro compares names without their namespace; a reader's alias names its older self."""
    return _named(reader) == _named(writer) or writer["name"] in reader.get("aliases", ())


def _at(path: str) -> str:
    return f"field `{path}`" if path else "the record"


def _both(one: Any, other: Any) -> str:
    """Name two things in one order, so that either direction of reading complains in the same words."""
    return " and ".join(sorted((str(one), str(other))))


def verdict(found: Iterable[Break]) -> frozenset[Rule]:
    """Return the rules that are broken."""
    return frozenset(each.rule for each in found)
