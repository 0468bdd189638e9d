"""Re-make `jars.lock` from `pom.xml`. For maintainers: it alone needs Maven.

Maven resolves, because it is the reference for what a POM means; users then fetch exactly the files it chose, each
one by itself, so that no user's resolver has a say on their machine. A set of the lock is a profile of the POM, and is
resolved alone.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from deploy.local.fetch import artifacts
from deploy.local.fetch.artifacts import LOCK_NAME, Artifact, render

FOLDER = Path(artifacts.__file__).parent
PACKAGINGS = ("jar", "tar.gz")


def main() -> int:
    """Resolve, hash, write; print how many files and bytes each set has now."""
    sets = {name: tuple(_resolved(name)) for name in _profiles()}
    (FOLDER / LOCK_NAME).write_text(render(sets), encoding="utf-8")
    for name, files in sets.items():
        megabytes = sum(each.size_bytes for each in files) / 1e6
        sys.stdout.write(f"{LOCK_NAME}: {name}: {len(files)} files, {megabytes:.0f} MB\n")
    return 0


def _profiles() -> list[str]:
    pom = ET.parse(FOLDER / "pom.xml")  # noqa: S314 - our own file
    return [str(profile.findtext("{*}id")) for profile in pom.iterfind("{*}profiles/{*}profile")]


def _resolved(profile: str) -> Iterator[Artifact]:
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        _resolve_into(repository, profile)
        for path in repository.rglob("*"):
            if path.name.endswith(PACKAGINGS):
                yield _artifact(path, repository)


def _resolve_into(repository: Path, profile: str) -> None:
    if (maven := shutil.which("mvn")) is None:
        sys.exit("Maven is not installed: install it to re-make the lock; it is needed for nothing else")
    goal = "dependency:copy-dependencies"
    options = ("-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true", f"-DoutputDirectory={repository}")
    subprocess.run([maven, "-B", "-q", "-f", str(FOLDER / "pom.xml"), "-P", profile, goal, *options], check=True)


def _artifact(path: Path, repository: Path) -> Artifact:
    """Read the coordinates off the repository layout: group/parts/artifact/version/artifact-version[-c].type."""
    *group, name, version, file_name = path.relative_to(repository).parts
    packaging = next(each for each in PACKAGINGS if file_name.endswith(f".{each}"))
    classifier = file_name.removeprefix(f"{name}-{version}").removesuffix(f".{packaging}").removeprefix("-")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return Artifact(".".join(group), name, version, classifier, packaging, sha256, len(content))


if __name__ == "__main__":
    sys.exit(main())
