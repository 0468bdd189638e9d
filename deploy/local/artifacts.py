"""Read and write `jars.lock`: what the local stack runs on Java, each file by coordinates, SHA-256 and size. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

LOCK_NAME = "jars.lock"

_HEADER = (
    "# group:artifact:version[:classifier:type] sha256 size_bytes\n"
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
        """Tell whether the file belongs on a class path; the others are archives to unpack."""
        return self.packaging == "jar"


def parse(text: str) -> tuple[Artifact, ...]:
    """Return the artifacts of a lock file's text, in its order."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(_parse_line(line) for line in lines if line and not line.startswith("#"))


def render(artifacts: Iterable[Artifact]) -> str:
    """Return the text of a lock file: one line per artifact, ascending by coordinates."""
    lines = (f"{each.coordinates} {each.sha256} {each.size_bytes}\n" for each in sorted(artifacts))
    return _HEADER + "".join(lines)


def locked() -> tuple[Artifact, ...]:
    """Return what the lock file beside this module names."""
    return parse(resources.files(__package__).joinpath(LOCK_NAME).read_text(encoding="utf-8"))


def _parse_line(line: str) -> Artifact:
    coordinates, sha256, size = line.split()
    parts = coordinates.split(":")
    if len(parts) not in {_PLAIN_PARTS, _CLASSIFIED_PARTS}:
        raise ValueError(f"{LOCK_NAME}: not coordinates: {coordinates}")
    classifier, packaging = parts[3:] or ("", "jar")
    return Artifact(parts[0], parts[1], parts[2], classifier, packaging, sha256, int(size))
