"""What compose.yaml says, for tests: images and settings stand there alone."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # comes with schemathesis, without types

FILE = Path(__file__).parents[1] / "compose.yaml"


@cache
def compose() -> dict[str, Any]:
    """Return the file, its anchors and merges resolved."""
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return loaded


def services() -> dict[str, dict[str, Any]]:
    """Return every service, those of optional profiles too."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def image(service: str) -> str:
    """Return the image of a service."""
    return str(services()[service]["image"])


def environment(service: str) -> Mapping[str, str]:
    """Return the variables of a service."""
    return dict(services()[service].get("environment", {}))
