"""The table of points that `onceloop.testing` knows, against the source of the loop."""

import re
from pathlib import Path

from onceloop.testing.points import POINTS
from onceloop.testing.trials import TRIALS, Kind

ONCELOOP = Path(__file__).parents[3] / "onceloop"
_PASSED = re.compile(r'point\(f?"(?:\{[^}]+\}:)?([a-z_.]+)"\)')
NOT_OF_THE_TRANSACTIONAL_LOOP = {"plain.py"}


def passed_in_the_code() -> set[str]:
    sources = [path for path in ONCELOOP.rglob("*.py") if path.name not in NOT_OF_THE_TRANSACTIONAL_LOOP]
    return {name for path in sources for name in _PASSED.findall(path.read_text(encoding="utf-8"))}


def test_table_holds_every_point_of_the_loop_and_no_other() -> None:
    assert {point.name for point in POINTS} == passed_in_the_code() - {"name"}


def test_every_point_is_tried_and_no_name_stands_twice() -> None:
    names = [point.name for point in POINTS]
    assert len(names) == len(set(names))
    assert [trial.point for trial in TRIALS if trial.kind is Kind.KILL] == list(POINTS)
    assert len({str(trial) for trial in TRIALS}) == len(TRIALS)
    assert {trial.kind for trial in TRIALS} == set(Kind)
