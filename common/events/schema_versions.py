"""All versions of each event's schema, as they are packaged: `schemas/<Event>/v<N>.avsc`, golden bytes beside. Pure.

The highest number is what this code writes, and reads into. The others stay for ever: a topic, a backup, a dead letter
may hold what they wrote. A version with golden bytes is published and never changes again; a change is one more file.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from io import BytesIO
from typing import Any, cast

import fastavro

PACKAGED: Traversable = resources.files("common.events") / "schemas"
_SCHEMA = re.compile(r"v([1-9]\d*)\.avsc")


@dataclass(frozen=True, slots=True)
class Golden:
    """One record, in JSON and as the bytes that a version's writer makes of it, without the frame."""

    schema_sha256: str
    """Of the schema that wrote them: an edit of a published schema is found."""
    record: dict[str, Any]
    avro: bytes


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One version of an event's schema. `golden`: None as long as it is not published."""

    event: str
    number: int
    text: str
    golden: Golden | None

    @property
    def sha256(self) -> str:
        """Return the fingerprint of the schema."""
        return fingerprint(self.text)

    def __str__(self) -> str:
        return f"{self.event} v{self.number}"


def versions(event: str, schemas: Traversable = PACKAGED) -> tuple[SchemaVersion, ...]:
    """Return the versions of an event, oldest first; none for an event that has no folder."""
    folder = schemas / event
    if not folder.is_dir():
        return ()
    numbers = sorted(int(found[1]) for file in folder.iterdir() if (found := _SCHEMA.fullmatch(file.name)))
    return tuple(_version(folder, event, number) for number in numbers)


def events(schemas: Traversable = PACKAGED) -> tuple[str, ...]:
    """Return the names of all events that have a folder, sorted."""
    return tuple(sorted(folder.name for folder in schemas.iterdir() if folder.is_dir() and folder.name.isidentifier()))


@cache
def newest(event: str) -> SchemaVersion:
    """Return the version that this code writes."""
    return versions(event)[-1]


def fingerprint(text: str) -> str:
    """Return the SHA-256 of all that a schema says; JSON's spacing and order of members say nothing."""
    try:
        form = json.dumps(json.loads(text), sort_keys=True)
    except ValueError:  # Protobuf, for example
        form = text
    return hashlib.sha256(form.encode()).hexdigest()


def parse(text: str) -> Any:
    """Return the schema as fastavro takes it, without logical types: times stay numbers, ids stay texts.

    Raises whatever fastavro meets in a text that is no Avro schema that stands alone.
    """
    return fastavro.parse_schema(without_logical_types(json.loads(text)))


def without_logical_types(schema: Any) -> Any:
    """Return the schema with the plain types that its logical types annotate."""
    if isinstance(schema, dict):
        return {key: without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    if isinstance(schema, list):
        return [without_logical_types(part) for part in schema]
    return schema


def make_golden(version: SchemaVersion, record: dict[str, Any]) -> Golden:
    """Return the golden bytes of a record. Raises what fastavro does if the schema has no room for it."""
    out = BytesIO()
    fastavro.schemaless_writer(out, parse(version.text), record, strict=True)
    return Golden(version.sha256, record, out.getvalue())


def golden_text(golden: Golden) -> str:
    """Return the content of a golden file."""
    contents = {"schema_sha256": golden.schema_sha256, "record": golden.record, "avro_hex": golden.avro.hex()}
    return json.dumps(contents, indent=2, ensure_ascii=False) + "\n"


def golden_name(number: int) -> str:
    """Return the name of the golden file beside a version's schema."""
    return f"v{number}.golden.json"


def reread(golden: Golden, writer: str, reader: str) -> dict[str, Any]:
    """Return what a reader with one schema gets of the golden bytes that another wrote."""
    source = BytesIO(golden.avro)
    record = fastavro.schemaless_reader(source, parse(writer), parse(reader))
    if source.tell() != len(golden.avro):
        raise ValueError(f"{len(golden.avro) - source.tell()} bytes behind the record")
    return cast(dict[str, Any], record)


def _version(folder: Traversable, event: str, number: int) -> SchemaVersion:
    text = (folder / f"v{number}.avsc").read_text(encoding="utf-8")
    return SchemaVersion(event, number, text, next(_golden(folder / golden_name(number)), None))


def _golden(file: Traversable) -> Iterator[Golden]:
    if file.is_file():
        contents = json.loads(file.read_text(encoding="utf-8"))
        yield Golden(contents["schema_sha256"], contents["record"], bytes.fromhex(contents["avro_hex"]))
