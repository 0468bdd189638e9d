"""Schemas and ids that the registry confirmed, in files, for a process that starts while the registry is away.

One file per id, replaced in one step: processes share the folder, and a reader sees the old file or the new one. An id
keeps its schema as long as the registry keeps its data, so the folder belongs to the data: if one is emptied, the
other must be too. What was not confirmed for some days is not believed any more.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import RegistrySettings
from common.log import get_logger

_DAY_SECONDS = 24 * 60 * 60

log = get_logger()


@dataclass(frozen=True, slots=True)
class SchemaCache:
    """What one registry said. `folder`: None keeps nothing."""

    folder: Path | None
    registry_address: str
    days: int

    @classmethod
    def of(cls, settings: RegistrySettings) -> "SchemaCache":
        """Return the cache that the settings describe; nothing is read or written yet."""
        return cls(settings.schema_cache_dir, settings.registry_address, settings.schema_cache_days)

    def remember(self, schemas: Mapping[int, str]) -> None:
        """Note that the registry just confirmed these ids. If the folder cannot be written, that is only logged."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for schema_id, text in schemas.items():
                entry = {
                    "registry": self.registry_address,
                    "id": schema_id,
                    "confirmed_at": time.time(),
                    "schema": text,
                }
                _replace(self.folder / f"{self._registry_name}-{schema_id}.json", json.dumps(entry))
        except OSError as error:
            log.warning("schemas.not_remembered", folder=str(self.folder), cause=str(error))

    def recall(self) -> dict[int, str]:
        """Return the schemas that were confirmed within `days`, by id."""
        if self.folder is None:
            return {}
        entries = [_read(file) for file in sorted(self.folder.glob(f"{self._registry_name}-*.json"))]
        oldest = time.time() - self.days * _DAY_SECONDS
        return {entry["id"]: entry["schema"] for entry in entries if entry and entry["confirmed_at"] >= oldest}

    @property
    def _registry_name(self) -> str:
        """Return a file name's beginning that no other registry has."""
        return hashlib.sha256(self.registry_address.encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        return {"id": int(entry["id"]), "schema": str(entry["schema"]), "confirmed_at": float(entry["confirmed_at"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("schemas.not_recalled", file=str(file), cause=f"{type(error).__name__}: {error}")
        return None


def _replace(path: Path, text: str) -> None:
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(aside).replace(path)
    except OSError:
        with suppress(OSError):
            Path(aside).unlink()
        raise
