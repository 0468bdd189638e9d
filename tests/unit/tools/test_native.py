"""The extension is built where that is possible; where it is not, one line says what is used instead."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from tools import native


@pytest.fixture
def without_cargo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("cargo") is None


@pytest.mark.usefixtures("without_cargo")
def test_without_cargo_python_alone_reads_orders(tmp_path: Path) -> None:
    assert native.build(tmp_path / "dist") == "orders are read by Python alone: there is no cargo on this machine"
    assert not (tmp_path / "dist").exists()


def test_build_that_fails_is_no_failure__and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cargo = tmp_path / "bin" / "cargo"
    cargo.parent.mkdir()
    cargo.write_text("#!/bin/sh\necho crates.io does not answer >&2\nexit 101\n")
    cargo.chmod(0o755)
    monkeypatch.setenv("PATH", str(cargo.parent), prepend=":")
    said = native.build(tmp_path / "dist")
    assert said.startswith("orders are read by Python alone: the extension could not be built: ")
    assert importlib.util.find_spec("maturin") is None or "crates.io does not answer" in said
    assert list((tmp_path / "dist").iterdir()) == []
