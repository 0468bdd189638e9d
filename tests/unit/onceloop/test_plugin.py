"""The pytest plugin of `onceloop.testing` where no trials were asked for, and where the servers are not there."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[3]
MODULE = """
from onceloop.testing import Case

MINE = Case(app="nowhere:app", records=[("k", "v")], effects="SELECT 1")


def test_of_another_kind():
    assert True
"""


def run(folder: Path, *arguments: str) -> str:
    (folder / "test_mine.py").write_text(MODULE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "onceloop.testing.plugin", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ONCELOOP_BOOTSTRAP": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_case_is_one_skipped_test_that_says_how_to_run_it(tmp_path: Path) -> None:
    said = run(tmp_path)
    assert "1 passed, 1 skipped" in said
    assert "onceloop: 1 case not tried. `pytest --onceloop` tries it on a real broker and database" in said
    assert "onceloop-seed" not in said


def test_trials_are_collected_by_their_names(tmp_path: Path) -> None:
    said = run(tmp_path, "--onceloop", "--collect-only", "-q")
    for name in ("undisturbed", "kill[db.sent]", "zombie[metadata]", "database-away[db.read]", "twin", "stale-offsets"):
        assert f"test_mine.py::MINE::{name}" in said


def test_missing_broker_ends_the_run_with_the_way_out(tmp_path: Path) -> None:
    said = run(tmp_path, "--onceloop")
    assert "onceloop: nothing answers at 127.0.0.1:1" in said
    assert "--onceloop-bootstrap HOST:PORT --onceloop-dsn postgresql://" in said


def test_other_machine_is_refused(tmp_path: Path) -> None:
    said = run(tmp_path, "--onceloop", "--onceloop-bootstrap", "kafka.example:9092")
    assert "kafka.example is another machine" in said


def test_plugin_costs_a_run_without_trials_no_client() -> None:
    asked = "import onceloop.testing.plugin, onceloop.testing, sys; print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "onceloop.testing.case" in said
    for module in ("confluent_kafka", "psycopg", "onceloop.app", "onceloop.testing.runner"):
        assert f"'{module}'" not in said


def test_installed_entry_point_is_the_plugin_that_this_repository_names() -> None:
    """Of one name: pytest takes a plugin of the same object under a second name for an error."""
    text = (ROOT / "onceloop" / "pyproject.toml").read_text(encoding="utf-8")
    assert '"onceloop.testing.plugin" = "onceloop.testing.plugin"' in text
    installed = [each.name for each in metadata.entry_points(group="pytest11") if "onceloop" in each.value]
    assert installed in ([], ["onceloop.testing.plugin"])


def test_options_carry_the_plugins_name(tmp_path: Path) -> None:
    said = run(tmp_path, "--help")
    for option in ("bootstrap", "dsn", "seed", "jobs", "anywhere"):
        assert f"--onceloop-{option}" in said
