"""Publish a version: write the golden bytes that keep it as it is for ever."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.events.compatibility import breaks
from common.events.schema_versions import SchemaVersion, golden_name, golden_text, make_golden, versions
from onceloop.errors import ReportedError


@dataclass(frozen=True, slots=True)
class Published:
    """The golden file of a version, and whether this very call wrote it."""

    version: SchemaVersion
    file: Path
    written: bool


def freeze(event: str, given: Mapping[str, Any], schemas: Path) -> Published:
    """Write the golden file of an event's newest version; one that is published already stays as it is.

    Its record is that of the version before, with the `given` fields, and with their defaults for other new ones.
    Raises ReportedError if a rule is broken, or if a field has no value.
    """
    found = versions(event, schemas)
    if not found:
        raise ReportedError(f"no schema of {event} in {schemas}", cure=f"write {schemas / event / 'v1.avsc'}")
    newest = found[-1]
    file = schemas / event / golden_name(newest.number)
    if newest.golden is not None:
        if newest.golden.schema_sha256 != newest.sha256:
            raise ReportedError(
                f"{newest} was edited after it was published",
                cure=f"put it back, and write the change into v{newest.number + 1}.avsc",
            )
        return Published(newest, file, written=False)
    for older in found[:-1]:
        for broken in breaks(older.text, newest.text):
            raise ReportedError(f"v{older.number} -> v{newest.number}: {broken}", cure="pipeline schemas check")
    before = found[-2].golden if len(found) > 1 else None
    try:
        golden = make_golden(newest, _record(newest, before.record if before else {}, given))
    except (ValueError, TypeError) as error:
        raise ReportedError(f"the record does not fit {newest}: {error}", cure="correct --field NAME=VALUE") from error
    file.write_text(golden_text(golden), encoding="utf-8")
    return Published(newest, file, written=True)


def _record(version: SchemaVersion, before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each field of the schema, in its order."""
    fields = {field["name"]: field for field in json.loads(version.text)["fields"]}
    if unknown := sorted(given.keys() - fields.keys()):
        raise ReportedError(f"{version} has no field {', '.join(unknown)}", cure=f"its fields: {', '.join(fields)}")
    defaults = {name: field["default"] for name, field in fields.items() if "default" in field}
    values = {**defaults, **before, **given}
    if missing := [name for name in fields if name not in values]:
        raise ReportedError(
            f"the golden record of {version} has no value for {', '.join(missing)}",
            cure=" ".join(f"--field {name}=..." for name in missing),
        )
    return {name: values[name] for name in fields}
