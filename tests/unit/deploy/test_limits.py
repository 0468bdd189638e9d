"""What the machine grants: `up` takes what it may, and names what is missing before anything starts."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import up
from deploy.cli.main import app
from deploy.local import supervisor
from deploy.local.doctor import Check, _open_files
from deploy.local.process import OPEN_FILES_WANTED, raise_open_files
from onceloop.errors import ExitCode

ASKED = "from deploy.local.process import raise_open_files; import resource"
REPORTED = "print(raise_open_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"


def raised(soft: int, hard: int) -> str:
    """Return what a process with these limits has in the end, and says."""
    lowered = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{ASKED}; {lowered}; {REPORTED}"], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_soft_limit_of_open_files_is_raised() -> None:
    """`ulimit -Sn 256`, the default on macOS, ended `up` with a line on an indexer of the registry."""
    assert raised(256, 8192) == f"{OPEN_FILES_WANTED} {OPEN_FILES_WANTED}"


def test_limit_that_is_high_is_left_alone() -> None:
    assert raised(6000, 8192) == f"{OPEN_FILES_WANTED} 6000"


class Limits:
    """What the system grants a user who is not root."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.now = (soft, hard)
        monkeypatch.setattr(resource, "getrlimit", lambda _kind: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _kind: int, wanted: tuple[int, int]) -> None:
        if wanted[1] > self.now[1]:
            raise ValueError("not allowed to raise maximum limit")
        self.now = wanted


def test_limit_is_raised_as_far_as_the_system_lets_us(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(monkeypatch, 256, 2000)
    assert raise_open_files() == 2000
    assert limits.now == (2000, 2000)
    assert _open_files().ok


def test_hard_limit_that_cannot_be_raised_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(monkeypatch, 256, 256)
    check = _open_files()
    assert (check.ok, check.finding) == (False, "limit 256, 1024 are needed")
    assert "ulimit -n 4096" in check.cure


def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *checks: Check) -> tuple[int, str, bool]:
    """Return exit code and output of `up` on a machine of which this is found, and whether anything was started."""
    started = []
    monkeypatch.setattr(up, "before_start", lambda _home: checks)
    monkeypatch.setattr(supervisor, "run", lambda *_: started.append(True))
    result = CliRunner().invoke(app, ["up", "--home", str(tmp_path / "stack")])
    return result.exit_code, result.output, bool(started)


def test_start_that_cannot_succeed_is_refused_by_what_doctor_finds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Check("open files", ok=False, finding="limit 256", cure="ulimit -n 4096")
    code, output, started = start(monkeypatch, tmp_path, Check("disk", ok=True, finding="9 GB"), found)
    assert (code, started) == (ExitCode.CONFIG, False)
    assert output == "error: open files: limit 256\n  way out: ulimit -n 4096\n"


def test_scarce_memory_is_named_and_the_start_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Check("memory", ok=False, finding="1.1 GB available", cure="close other programs")
    code, output, started = start(monkeypatch, tmp_path, found)
    assert (code, started) == (0, True)
    assert "warning: memory: 1.1 GB available\n  way out: close other programs\n" in output
