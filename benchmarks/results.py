"""Keep what a measurement found, with all that another one must know to be compared with it."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

FOLDER = Path(__file__).parent / "results"
CLIENTS = ("confluent-kafka", "fastavro", "psycopg")
_GIT_SECONDS = 5


def machine() -> dict[str, Any]:
    """Return what the figures were taken on; they mean little on another."""
    return {
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
    }


def client_versions() -> dict[str, str]:
    """Return Python and the packages of the hot path."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in CLIENTS}}


def commit() -> str | None:
    """Return the commit of this checkout, `-dirty` behind it if files differ; None outside of one."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ("git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")
        done = subprocess.run(
            command, cwd=FOLDER.parent, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS
        )
        return done.stdout.strip()
    return None


def keep(question: str, found: Mapping[str, Any], *, folder: Path) -> Path:
    """Write the findings as `<question>-<UTC>.json` and return the path."""
    taken_at = datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{question}-{taken_at:%Y%m%dT%H%M%SZ}.json"
    document = {"question": question, "taken_at": taken_at.isoformat(timespec="seconds"), **found}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path
