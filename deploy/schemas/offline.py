"""Check every version of every schema against all the others, with nothing but the files. No server is asked."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources.abc import Traversable

from common.events.codec import EVENT_TYPES, Codec
from common.events.schema_versions import PACKAGED, SchemaVersion, events, make_golden, parse, reread, versions
from common.topics import EVENT_TOPICS
from deploy.schemas.compatibility import breaks
from onceloop.errors import Undecodable

_FRAME = struct.Struct(">bI")
_TYPES = {kind.__name__: kind for kind in EVENT_TYPES}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one event's schemas. `rule`: the name under which docs/schema-evolution.md explains it."""

    event: str
    what: str
    rule: str

    def __str__(self) -> str:
        return f"{self.event}: {self.what}: {self.rule}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at for one event: its versions, how many golden records decode, and what is wrong."""

    event: str
    versions: tuple[SchemaVersion, ...]
    goldens: int
    findings: tuple[Finding, ...]


def check_all(schemas: Traversable = PACKAGED) -> tuple[Checked, ...]:
    """Check the schemas of all events that a topic carries or that have a folder."""
    carried = [str(topic.value) for topic in EVENT_TOPICS]
    return tuple(check(event, schemas) for event in dict.fromkeys([*carried, *events(schemas)]))


def check(event: str, schemas: Traversable = PACKAGED) -> Checked:
    """Check all versions of one event: numbers, compatibility of every pair, golden bytes."""
    found = versions(event, schemas)
    findings = [Finding(event, what, rule) for what, rule in _folder(event, found)]
    readable: list[SchemaVersion] = []
    for version in found:
        if complaint := _unreadable(version):
            findings.append(Finding(event, complaint, "INVALID_SCHEMA"))
        else:
            readable.append(version)
    for newer, older in ((b, a) for at, b in enumerate(readable) for a in readable[:at]):
        pair = f"v{older.number} -> v{newer.number}"
        findings += [Finding(event, f"{pair}: {each.what}", each.rule) for each in breaks(older.text, newer.text)]
    broken = [Finding(event, what, rule) for version in readable for what, rule in _golden(version, readable)]
    goldens = sum(version.golden is not None for version in readable)
    return Checked(event, found, goldens, (*findings, *broken))


def _folder(event: str, found: Sequence[SchemaVersion]) -> Iterator[tuple[str, str]]:
    if event not in {topic.value for topic in EVENT_TOPICS}:
        yield "no topic of common/topics.py carries it", "NO_TOPIC"
    if event not in _TYPES:
        yield "common/events/codec.py does not know it", "NO_EVENT"
    if not found:
        yield f"common/events/schemas/{event}/v1.avsc is missing", "NO_SCHEMA"
    for expected, version in enumerate(found, 1):
        if version.number != expected:
            yield f"v{expected} is missing below v{version.number}; versions are kept for ever", "VERSION_MISSING"
            return


def _unreadable(version: SchemaVersion) -> str:
    """Return why a text is no schema of this event, or an empty text."""
    try:
        schema = parse(version.text)
        breaks(version.text, version.text)  # with its logical types it must be sound too
    except Exception as error:  # noqa: BLE001 - whatever fastavro meets in a text that is no schema
        return f"v{version.number}: {type(error).__name__}: {error}"
    name = schema.get("name", "") if isinstance(schema, dict) else ""
    if str(name).rpartition(".")[2] != version.event or schema["type"] != "record":
        return f"v{version.number} is no record named {version.event}"
    return ""


def _golden(version: SchemaVersion, readers: Sequence[SchemaVersion]) -> Iterator[tuple[str, str]]:
    """Look at the golden bytes of one version with the eyes of every version, and of this code."""
    golden = version.golden
    if golden is None:
        yield f"v{version.number} is not published: pipeline schemas freeze {version.event}", "NO_GOLDEN_BYTES"
        return
    if golden.schema_sha256 != version.sha256:
        yield f"v{version.number} was edited after it was published; add v{version.number + 1}", "PUBLISHED_CHANGED"
        return
    attempts: Mapping[str, Callable[[], object]] = {
        **{f"v{reader.number}": partial(reread, golden, version.text, reader.text) for reader in readers},
        "this code": partial(_decode, version, golden.avro),
    }
    for who, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - whatever fastavro meets in bytes that do not fit
            yield f"{who} does not read the golden bytes of v{version.number}: {error}", "GOLDEN_UNREADABLE"
    if make_golden(version, golden.record).avro != golden.avro:
        yield f"v{version.number} writes its golden record as other bytes", "GOLDEN_CHANGED"


def _decode(version: SchemaVersion, avro: bytes) -> None:
    """Decode as a service does that meets a schema which is not its newest."""
    event = _TYPES.get(version.event)
    if event is None:
        return

    def writer_schema(_schema_id: int) -> str:
        return version.text

    try:
        Codec({}, writer_schema).decode(event, _FRAME.pack(0, version.number) + avro)
    except Undecodable as error:
        raise ValueError(f"{error.error_class}: {error.reason}") from error
