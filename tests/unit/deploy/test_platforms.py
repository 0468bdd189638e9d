"""Every file of the default set exists for every machine that the README names; judged without a network."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from deploy.local.fetch.artifacts import locked
from tools.lock_platforms import EVERY, LOCK, MACHINES, NAME, PYTHONS, ROOT, Machine, natives, served_by_all

TABLE = (ROOT / "deploy/local/fetch" / NAME).read_text(encoding="utf-8")
WHEELS, JARS = (
    [line.split() for line in section.splitlines() if line]
    for section in re.split(r"^\[\w+\]$", TABLE, flags=re.MULTILINE)[1:]
)


def pinned() -> Iterator[tuple[str, str, str, set[str]]]:
    """Yield package, version, marker and hashes of the lock that `make up` installs."""
    text = (ROOT / LOCK).read_text(encoding="utf-8")
    for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE):
        if (found := re.match(r"([\w.-]+)(?:\[[^]]*\])?==(\S+)(?: ; ([^\\]+))?", block)) is not None:
            yield found[1], found[2], (found[3] or "").strip(), set(re.findall(r"sha256:(\w+)", block))


def test_there_is_something_to_look_at() -> None:
    assert len(list(pinned())) > 60
    assert len(JARS) > 80


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: ".".join(map(str, python)))
def test_every_package_has_a_wheel_for_every_machine(machine: Machine, python: tuple[int, int]) -> None:
    version, tags = ".".join(map(str, python)), set(machine.tags(python))
    lacking = []
    for name, release, marker, hashes in pinned():
        if marker and not Marker(marker).evaluate(machine.markers(python)):
            continue
        found = [
            (file, sha256)
            for package, for_python, for_machine, file, sha256 in WHEELS
            if package == name and for_python in {EVERY, version} and for_machine in {EVERY, machine.name}
        ]
        if not any(sha256 in hashes and fits(file, name, release, tags) for file, sha256 in found if file != "-"):
            lacking.append(f"{name}=={release}")
    assert lacking == [], "make lock-platforms"


def fits(file: str, package: str, release: str, tags: set[Tag]) -> bool:
    name, version, _, offered = parse_wheel_filename(file)
    return (name, str(version)) == (package, release) and bool(offered & tags)


def test_every_jar_with_native_libraries_has_those_of_every_machine() -> None:
    rows = {file: (sha256, brought) for file, sha256, brought in JARS}
    whole = ",".join(machine.name for machine in MACHINES)
    for artifact in locked():
        sha256, brought = rows[artifact.file_name]
        assert sha256 == artifact.sha256, "make lock-platforms"
        assert brought in {EVERY, whole}, artifact.file_name


def test_machines_of_a_jar_are_known_by_its_native_libraries() -> None:
    assert natives(["org/example/A.class"]) == (EVERY,)
    linux = ["Linux/x86_64/lib.so", "linux/aarch64/lib.so"]
    assert natives(linux) == ("linux-x86_64", "linux-aarch64")
    assert natives([*linux, "darwin/x86_64/lib.dylib"]) == ("linux-x86_64", "linux-aarch64")
    everywhere = [*linux, "Mac/aarch64/lib.jnilib"]
    assert natives(everywhere) == tuple(machine.name for machine in MACHINES)
    assert served_by_all([["A.class"], everywhere, linux]) == ("linux-x86_64", "linux-aarch64")


def test_readme_names_the_machines_that_are_looked_at() -> None:
    text = (Path(ROOT) / "README.md").read_text(encoding="utf-8")
    assert "`deploy/local/fetch/platforms.lock`" in text
