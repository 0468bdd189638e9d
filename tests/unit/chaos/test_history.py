from dataclasses import replace
from pathlib import Path

import pytest

from chaos import report
from chaos.history import Conditions, Result, Run, append, read

CONDITIONS = Conditions(commit="abc", cores=2, versions={"python": "3.11"})


def make_run(**changes: object) -> Run:
    made = Run(
        id="matrix-1-inventory.begun-kill",
        tier="matrix",
        subject="inventory:begun kill",
        seed=1,
        result=Result.PASSED,
        started="2026-01-01T00:00:00+00:00",
        seconds=3.5,
        txn_open=True,
        faults=[{"at": 0.5, "kind": "kill"}],
        orders={"orders": 200},
        rules={"S5": (200, 0)},
        recovery_seconds=1.25,
        stall_seconds=2.5,
        conditions=CONDITIONS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    runs = [make_run(), make_run(id="other", result=Result.VOID, why="the fault did not fire")]
    for run in runs:
        append(tmp_path, run)
    found = read(tmp_path)
    assert [(run.id, run.result, run.why, run.conditions) for run in found] == [
        (run.id, run.result, run.why, run.conditions) for run in runs
    ]


def test_history_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") == []


def test_report_shows_the_newest_run_of_each_subject() -> None:
    old = make_run(id="old", result=Result.FAILED, why="S5 (1x)")
    text = report.render([old, make_run()])
    assert "`matrix-1-inventory.begun-kill`" in text
    assert "`old`" not in text
    assert "1 kills, 0 zombies" in text
    assert "1.25 s" in text


@pytest.mark.parametrize(("result", "why"), [(Result.VOID, "it did not fire"), (Result.FAILED, "S5 (1x)")])
def test_report_never_takes_another_end_for_a_pass(result: Result, why: str) -> None:
    text = report.render([make_run(result=result, why=why)])
    assert f"1 {result}" in text
    assert "0 kills" in text
    assert why in text


def test_empty_report_says_how_to_fill_it() -> None:
    assert "make chaos" in report.render([])
