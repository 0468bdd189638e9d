"""Re-make `platforms.lock`: which file of the locks each machine gets. For maintainers: it alone asks an index.

A hash in a lock does not say which machine its file is for. Here stands the file's name beside the hash, so that a test
without a network sees that every package of `make up` has a wheel for every machine of `MACHINES`, and every jar that
brings native libraries brings theirs. Nothing reads the file at run time: pip and Java choose by themselves.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from deploy.local.fetch import jars
from deploy.local.fetch.artifacts import Artifact

ROOT = Path(__file__).parents[1]
NAME, LOCK = "platforms.lock", "requirements-local.lock"
PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
GLIBC_MINOR, MACOS = 36, (14, 0)
"""What Debian 12 has, and the macOS of 2023."""
EVERY = "*"
_HEADER = (
    "# Which file a machine gets. [wheels]: package, Python, machine, file, sha256; * is each of them.\n"
    "# [jars]: file, sha256, machines whose native libraries it brings; * where it brings none, and needs none.\n"
    "# Written by `make lock-platforms`; read by a test. Do not edit.\n"
)
_OPTIONAL = "brotli4j"
"""Netty compresses by it where its library is there: the registry's archive has that for one machine alone, and the
registry of a local stack compresses nothing."""
_NATIVE = (".so", ".dylib", ".jnilib")


@dataclass(frozen=True, slots=True)
class Machine:
    """A kind of machine: how pip calls it, and how jars call it inside."""

    name: str
    system: str
    """As `sys.platform` says."""
    processor: str
    """As `platform.machine()` says."""
    folders: tuple[tuple[str, ...], tuple[str, ...]]
    """Names of its system and of its processor on the way to a native library."""

    def platforms(self) -> Sequence[str]:
        """Return the platform tags of its wheels, the best first."""
        if self.system == "darwin":
            return list(mac_platforms(MACOS, self.processor))
        former = ("2014", "2010", "1")
        numbered = [f"manylinux_2_{minor}_{self.processor}" for minor in range(GLIBC_MINOR, 4, -1)]
        return [*numbered, *(f"manylinux{name}_{self.processor}" for name in former), f"linux_{self.processor}"]

    def tags(self, python: tuple[int, int]) -> Sequence[Tag]:
        """Return all tags of wheels that it takes."""
        platforms = self.platforms()
        return [*cpython_tags(python, platforms=platforms), *compatible_tags(python, platforms=platforms)]

    def markers(self, python: tuple[int, int]) -> dict[str, str]:
        """Return what a requirement's marker is judged by."""
        version = ".".join(map(str, python))
        system = {"darwin": "Darwin", "linux": "Linux"}[self.system]
        return {
            "sys_platform": self.system,
            "platform_machine": self.processor,
            "platform_system": system,
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "python_version": version,
            "python_full_version": f"{version}.9",
        }


MACHINES = (
    Machine("linux-x86_64", "linux", "x86_64", (("linux",), ("x86_64", "amd64", "linux64"))),
    Machine("linux-aarch64", "linux", "aarch64", (("linux",), ("aarch64", "arm64"))),
    Machine("macos-arm64", "darwin", "arm64", (("darwin", "mac", "osx"), ("aarch64", "arm64"))),
)


def main() -> int:
    """Resolve, look into the jars, write; end with 1 where a machine gets no file."""
    rows = sorted({row for package in _packages() for row in _wheel_rows(package)})
    brought = {artifact: ",".join(served_by_all(archives)) for artifact, archives in _contents()}
    found = [f"{artifact.file_name} {artifact.sha256} {machines}" for artifact, machines in brought.items()]
    text = f"{_HEADER}\n[wheels]\n{_lines(rows)}\n[jars]\n{_lines(sorted(found))}"
    (Path(jars.__file__).parent / NAME).write_text(text, encoding="utf-8")
    lacking = [row for row in rows if row.split()[3] == "-"]
    sys.stdout.write(f"{NAME}: {len(rows)} wheels, {len(found)} jars\n{_lines(lacking)}")
    return 1 if lacking else 0


def natives(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the machines for which an archive of these paths has native libraries; `*` if it has none at all."""
    native = [path.lower() for path in paths if path.endswith(_NATIVE)]
    if not native:
        return (EVERY,)
    return tuple(
        machine.name
        for machine in MACHINES
        if any(all(any(word in path for word in words) for words in machine.folders) for path in native)
    )


def served_by_all(archives: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the machines for which every archive that has native libraries brings them; `*` where none has any."""
    brought = [found for paths in archives if (found := natives(paths)) != (EVERY,)]
    if not brought:
        return (EVERY,)
    return tuple(machine.name for machine in MACHINES if all(machine.name in found for found in brought))


def _packages() -> Iterator[Mapping[str, Any]]:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or sys.exit("make setup")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pylock.toml"
        asked = ("--extra", "local", "--group", "build", "--universal", "--format", "pylock.toml", "-c", LOCK)
        command = [uv, "pip", "compile", "pyproject.toml", *asked, "--no-header", "--quiet", "-o", str(output)]
        subprocess.run(command, cwd=ROOT, check=True)
        yield from tomllib.loads(output.read_text(encoding="utf-8"))["packages"]


def _wheel_rows(package: Mapping[str, Any]) -> Iterator[str]:
    wheels = {wheel["url"].rpartition("/")[2]: wheel["hashes"]["sha256"] for wheel in package.get("wheels", ())}
    chosen = {
        (python, machine): _choice(wheels, machine.tags(python))
        for python in PYTHONS
        for machine in MACHINES
        if "marker" not in package or Marker(package["marker"]).evaluate(machine.markers(python))
    }
    if len(set(chosen.values())) == 1 and len(chosen) == len(PYTHONS) * len(MACHINES):
        yield f"{package['name']} {EVERY} {EVERY} {next(iter(chosen.values()))}"
        return
    for ((major, minor), machine), choice in chosen.items():
        yield f"{package['name']} {major}.{minor} {machine.name} {choice}"


def _choice(wheels: Mapping[str, str], tags: Sequence[Tag]) -> str:
    """Return name and hash of the wheel that pip would take; `- -` if there is none."""
    rank = {tag: number for number, tag in enumerate(tags)}
    fitting = [
        (min(rank[tag] for tag in found), name)
        for name in wheels
        if (found := parse_wheel_filename(name)[3] & rank.keys())
    ]
    if not fitting:
        return "- -"
    _, name = min(fitting)
    return f"{name} {wheels[name]}"


def _contents() -> Iterator[tuple[Artifact, list[list[str]]]]:
    """Yield each file of the stack with the paths inside of it, or inside of each jar that it contains."""
    cache = jars.ensure()
    for artifact in cache.artifacts:
        path = cache.path(artifact)
        inside = [path] if artifact.is_jar else sorted(path.rglob("*.jar"))
        yield artifact, [zipfile.ZipFile(jar).namelist() for jar in inside if _OPTIONAL not in jar.name]


def _lines(rows: Sequence[str]) -> str:
    return "".join(f"{row}\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
