"""Examine the machine for what the local stack needs; each check says what it found and what would cure it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.local import jars, parts, ports, prometheus, state
from deploy.local.account import account_for
from deploy.local.artifacts import Artifact
from deploy.local.home import Home
from deploy.local.java import java
from deploy.local.postgres import programs
from deploy.local.process import OPEN_FILES_WANTED, child_environment, raise_open_files
from onceloop.errors import ReportedError

PYTHON_MIN = (3, 11)
MEMORY_BYTES_MIN = 2_000_000_000
DISK_BYTES_MIN = 2_000_000_000
OPEN_FILES_MIN = 1024
_RUN_SECONDS_MAX = 30


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. A cure may stand beside an `ok` too, as advice."""

    name: str
    ok: bool
    finding: str
    cure: str = ""


def examine(home: Home) -> tuple[Check, ...]:
    """Run all checks; none of them changes anything or raises."""
    checks: Mapping[str, Callable[[], Check]] = {
        "python": _python,
        "memory": _memory,
        "disk": lambda: _disk(home),
        "open files": _open_files,
        "java": _java,
        "postgres": lambda: _postgres(home),
        "prometheus": _prometheus,
        "cache": _cache,
        "ports": lambda: _ports(home),
    }
    return tuple(_safely(name, check) for name, check in checks.items())


def before_start(home: Home) -> tuple[Check, ...]:
    """Run the checks that decide whether a start can succeed, and raise the limit of open files; no exception."""
    checks: Mapping[str, Callable[[], Check]] = {
        "memory": _memory,
        "disk": lambda: _disk(home),
        "open files": _open_files,
        "java": _java,
        "postgres": lambda: _postgres(home),
    }
    return tuple(_safely(name, check) for name, check in checks.items())


def _safely(name: str, check: Callable[[], Check]) -> Check:
    """Turn an error of the examined thing into its finding."""
    try:
        return check()
    except ReportedError as error:
        return Check(name, ok=False, finding=error.message, cure=error.cure)
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, ok=False, finding=str(error), cure="make setup")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        return Check("python", ok=False, finding=version, cure="make a virtual environment with Python 3.11 or newer")
    if sys.prefix == sys.base_prefix:
        advice = "a virtual environment keeps the packages apart: make setup"
        return Check("python", ok=True, finding=f"{version}, outside a virtual environment", cure=advice)
    return Check("python", ok=True, finding=f"{version} in {sys.prefix}")


def _memory() -> Check:
    available = psutil.virtual_memory().available
    cure = "" if available >= MEMORY_BYTES_MIN else "close other programs: the stack takes up to 2 GB"
    return Check("memory", ok=not cure, finding=f"{available / 1e9:.1f} GB available", cure=cure)


def _disk(home: Home) -> Check:
    """Look at the home and at the cache: they may lie on different disks."""
    places = {existing(path): path for path in (home.root, jars.default_cache())}
    free = {place: psutil.disk_usage(str(place)).free for place in places}
    finding = ", ".join(f"{size / 1e9:.1f} GB free at {place}" for place, size in free.items())
    tight = [str(place) for place, size in free.items() if size < DISK_BYTES_MIN]
    cure = f"free 2 GB at {' and '.join(tight)}, or choose another folder: --home DIR, XDG_CACHE_HOME" if tight else ""
    return Check("disk", ok=not tight, finding=finding, cure=cure)


def _open_files() -> Check:
    """Raise the limit as a start does, then judge it."""
    limit = raise_open_files()
    if limit >= OPEN_FILES_MIN:
        return Check("open files", ok=True, finding=f"limit {limit}")
    cure = f"run `ulimit -n {OPEN_FILES_WANTED}` first; if that is refused, an administrator must raise the limit"
    return Check("open files", ok=False, finding=f"limit {limit}, {OPEN_FILES_MIN} are needed", cure=cure)


def _java() -> Check:
    said = _first_line([java(), "-XX:-UsePerfData", "-version"])
    return Check("java", ok=True, finding=said)


def _postgres(home: Home) -> Check:
    account = account_for(existing(home.root), programs())
    said = _first_line([str(programs() / "postgres"), "--version"])
    whom = f", runs as {account.owner.pw_name}" if account.owner else ""
    how = " with the right to pass closed folders" if account.prefix else ""
    return Check("postgres", ok=True, finding=f"{said}{whom}{how}")


def _prometheus() -> Check:
    """Look for what monitoring alone needs: its absence is no fault."""
    try:
        said = _first_line([prometheus.program(), "--version"])
    except ReportedError as error:
        return Check("prometheus", ok=True, finding="none, so no `pipeline up --with monitoring`", cure=error.cure)
    return Check("prometheus", ok=True, finding=said.partition(" (")[0])


def _cache() -> Check:
    cache = jars.cached()
    missing = _bytes(cache.missing())
    todo = f"the next start fetches {missing / 1e6:.0f} MB" if missing else "complete"
    more = {name: _bytes(jars.cached(sets=parts.load(name).jar_sets).missing()) - missing for name in parts.Name}
    advice = ", ".join(f"--with {name} fetches {size / 1e6:.0f} MB more" for name, size in more.items() if size)
    return Check("cache", ok=True, finding=f"{cache.folder}: {todo}", cure=advice)


def _bytes(artifacts: Iterable[Artifact]) -> int:
    return sum(each.size_bytes for each in artifacts)


def _ports(home: Home) -> Check:
    stack = state.current(home)
    ours = set(stack.ports.values()) if stack is not None and stack.pid else set()
    busy = [f"{name} {port}" for name, port in ports.defaults().items() if port not in ours and not ports.is_free(port)]
    if not busy:
        return Check("ports", ok=True, finding="all defaults are free or this stack's")
    return Check(
        "ports", ok=True, finding=f"busy: {', '.join(busy)}", cure="nothing to do: the next free ones are taken"
    )


def _first_line(command: list[str]) -> str:
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=child_environment(os.environ, {}),  # as the stack runs it: Java says what it picks up elsewhere
        encoding="utf-8",
        errors="replace",
        timeout=_RUN_SECONDS_MAX,
        check=True,
    )
    return ran.stdout.splitlines()[0]


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.parents) if each.exists())
