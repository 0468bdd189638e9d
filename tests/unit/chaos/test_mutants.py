"""Planted bugs are what they say: edits that fit the product as it is, and count as caught by their own rule alone."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.rules.invariants import INVARIANTS, MINUTES_COUNTED, NO_FALSE_REFUSAL, TESTIMONY_INVARIANTS
from chaos.bugs.planted import BUGS, named
from chaos.bugs.planting import Bug, Edit, StaleBugError, edited, plant
from chaos.mutants import verdict
from chaos.trials import TRIALS
from onceloop.errors import ExitCode, UsageError

REPOSITORY = Path(__file__).parents[3]
RULES = {rule.id for rule in (*INVARIANTS, *TESTIMONY_INVARIANTS, MINUTES_COUNTED, NO_FALSE_REFUSAL)}

SERVICE = """
from onceloop.kafka.transactional_producer import TransactionalProducer
print("looks at its taint:", "cause" in TransactionalProducer.tainted.__code__.co_names)
"""


def launch(folder: Path, mutant: str) -> subprocess.CompletedProcess[str]:
    (folder / "demo_service.py").write_text(SERVICE)
    return subprocess.run(
        [sys.executable, "-m", "chaos.run.launch", "demo_service"],
        env={
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY}:{folder}",
            "CHAOS_PLAN": str(folder / "plan.json"),
            "CHAOS_EVIDENCE": str(folder / "fired.jsonl"),
            "CHAOS_MUTANT": mutant,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module that has not been loaded; what is planted is gone after the test."""
    name = f"planted_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("def sum_of(a, b):\n    return a + b\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return name


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_fits_the_product_as_it_is(bug: Bug) -> None:
    for module in {edit.module for edit in bug.edits}:
        path = REPOSITORY / f"{module.replace('.', '/')}.py"
        text = edited(path.read_text(encoding="utf-8"), [edit for edit in bug.edits if edit.module == module])
        compile(text, str(path), "exec")
    assert bug.edits or bug.statements


def test_every_bug_has_a_trial_and_a_rule_that_the_checker_asks() -> None:
    assert list(TRIALS) == [bug.name for bug in BUGS]
    assert {bug.rule for bug in BUGS} <= RULES


def test_planted_module_does_what_its_edited_text_says(module: str, tmp_path: Path) -> None:
    plant(Bug("demo", "", "S5", (Edit(module, "a + b", "a - b"),)))

    assert importlib.import_module(module).sum_of(3, 2) == 1
    assert list(tmp_path.rglob("*.pyc")) == []


def test_planted_module_is_left_to_the_product_to_import(module: str) -> None:
    """The API's metrics need a folder before their client is imported: a module that was imported early crashed it."""
    plant(Bug("demo", "", "S5", (Edit(module, "a + b", "a - b"),)))

    assert module not in sys.modules


def test_module_that_is_gone_is_refused(module: str) -> None:
    with pytest.raises(StaleBugError, match="there is no module"):
        plant(Bug("demo", "", "S5", (Edit(f"{module}_moved", "a + b", "a - b"),)))


@pytest.mark.parametrize("old", ["a * b", "a"], ids=["is gone", "stands there more than once"])
def test_edit_is_refused_when_its_text__(module: str, old: str) -> None:
    with pytest.raises(StaleBugError, match="instead of one"):
        plant(Bug("demo", "", "S5", (Edit(module, old, "b"),)))


def test_module_that_was_loaded_before_is_refused() -> None:
    with pytest.raises(StaleBugError, match=r"onceloop\.errors was loaded before"):
        plant(Bug("demo", "", "S5", (Edit("onceloop.errors", "class Busy", "class Idle"),)))


def test_launched_service_runs_with_the_bug_in_it(tmp_path: Path) -> None:
    assert launch(tmp_path, "no-taint").stdout == "looks at its taint: False\n"
    assert launch(tmp_path, "").stdout == "looks at its taint: True\n"


def test_launcher_names_the_bugs_when_it_is_asked_for_another(tmp_path: Path) -> None:
    ended = launch(tmp_path, "no-such-bug")

    assert (ended.returncode, ended.stdout) == (ExitCode.USAGE, "")
    assert "no planted bug is called 'no-such-bug'; take one of offsets-behind-the-commit, " in ended.stderr
    with pytest.raises(UsageError):
        named("no-such-bug")


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        pytest.param({"S5": (9, 2), "S7": (9, 1)}, "", id="its own rule among others"),
        pytest.param({"S5": (9, 0), "S7": (9, 1)}, "S5 did not see it; broken: S7", id="another rule alone"),
        pytest.param({"S5": (9, 0)}, "S5 did not see it; broken: no rule", id="no rule"),
        pytest.param({}, "S5 did not see it; broken: no rule", id="nothing judged"),
    ],
)
def test_bug_is_caught_by_its_own_rule_alone(broken: dict[str, tuple[int, int]], why: str) -> None:
    assert verdict(named("no-taint"), broken, [], planted=True) == why


def test_product_passes_when_no_rule_is_broken() -> None:
    bug = named("no-taint")
    assert verdict(bug, {"S5": (9, 0)}, [], planted=False) == ""
    assert verdict(bug, {"S7": (9, 1)}, ["S7 (1x) ..."], planted=False) == "S7 (1x) ..."
