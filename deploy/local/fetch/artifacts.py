"""Read and write `jars.lock`: what the local stack runs on Java, each file by coordinates, SHA-256 and size. Pure.

The files stand in named sets, so that a stack fetches what its parts run and no more. A file may be in several.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

LOCK_NAME = "jars.lock"
STACK = "stack"
"""The set that every stack needs: broker and registry."""

_HEADER = (
    "# [set], then its files: group:artifact:version[:classifier:type] sha256 size_bytes\n"
    "# Written by `make lock-jars` from pom.xml; read by `pipeline up`. Do not edit.\n"
)
_PLAIN_PARTS, _CLASSIFIED_PARTS = 3, 5


@dataclass(frozen=True, slots=True, order=True)
class Artifact:
    """One file of Maven Central. The hash decides whether a copy is it; nothing else does."""

    group: str
    name: str
    version: str
    classifier: str
    packaging: str
    sha256: str
    size_bytes: int

    @property
    def coordinates(self) -> str:
        """Return group:artifact:version, followed by :classifier:type where it is not a plain jar."""
        plain = f"{self.group}:{self.name}:{self.version}"
        return f"{plain}:{self.classifier}:{self.packaging}" if self.classifier else plain

    @property
    def file_name(self) -> str:
        """Return the file's name in Maven Central; unique within the lock."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{suffix}.{self.packaging}"

    @property
    def is_jar(self) -> bool:
        """Return whether the file belongs on a class path; the others are archives to unpack."""
        return self.packaging == "jar"


def parse(text: str) -> dict[str, tuple[Artifact, ...]]:
    """Return set -> artifacts of a lock file's text, in its order."""
    sets: dict[str, list[Artifact]] = {}
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("["):
            current = sets.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            if not sets:
                raise ValueError(f"{LOCK_NAME}: a file before the first [set]: {line}")
            current.append(_parse_line(line))
    return {name: tuple(artifacts) for name, artifacts in sets.items()}


def render(sets: Mapping[str, Iterable[Artifact]]) -> str:
    """Return the text of a lock file: sets in the order given, one line per artifact, ascending by coordinates."""
    blocks = (f"\n[{name}]\n{''.join(map(_line, sorted(artifacts)))}" for name, artifacts in sets.items())
    return _HEADER + "".join(blocks)


def locked(name: str = STACK) -> tuple[Artifact, ...]:
    """Return what a set of the lock file beside this module names."""
    return _committed()[name]


def sets() -> tuple[str, ...]:
    """Return the sets that the lock file has."""
    return tuple(_committed())


def _committed() -> dict[str, tuple[Artifact, ...]]:
    return parse(resources.files(__package__).joinpath(LOCK_NAME).read_text(encoding="utf-8"))


def _line(artifact: Artifact) -> str:
    return f"{artifact.coordinates} {artifact.sha256} {artifact.size_bytes}\n"


def _parse_line(line: str) -> Artifact:
    coordinates, sha256, size = line.split()
    parts = coordinates.split(":")
    if len(parts) not in {_PLAIN_PARTS, _CLASSIFIED_PARTS}:
        raise ValueError(f"{LOCK_NAME}: not coordinates: {coordinates}")
    classifier, packaging = parts[3:] or ("", "jar")
    return Artifact(parts[0], parts[1], parts[2], classifier, packaging, sha256, int(size))
