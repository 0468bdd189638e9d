"""Pipelines share the jobs of their kind: each is done once, a spoilt one is given up, none is opened for nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.history import Result, Run
from chaos.points import POINTS, Job, Kind
from chaos.run.series import shared, work

JOBS = [Job(point, Kind.KILL) for point in POINTS[:6]]


def run_of(subject: str, result: Result = Result.PASSED) -> Run:
    return Run(id=subject, tier="matrix", subject=subject, seed=1, result=result, started="", seconds=0)


class Stage:
    """Pipelines that note what was done in them; `spoilt` names jobs that break a rule."""

    def __init__(self, *, spoilt: frozenset[str] = frozenset()) -> None:
        self.spoilt = spoilt
        self.opened: list[str] = []
        self.closed: list[str] = []

    @contextmanager
    def open(self, name: str) -> Iterator["Stage.Series"]:
        self.opened.append(name)
        yield Stage.Series(name, self.spoilt)
        self.closed.append(name)

    class Series:
        def __init__(self, name: str, spoilt: frozenset[str]) -> None:
            self._name, self._spoilt = name, spoilt

        def run(self, job: Job) -> Run:
            return run_of(str(job), Result.FAILED if str(job) in self._spoilt else Result.PASSED)

        def at_rest(self) -> Run:
            return run_of(f"{self._name} at rest")


def done(stage: Stage, *rows: list[str], jobs: list[Job]) -> list[str]:
    """Have the rows work on the same jobs; return what was run, in the order of its end."""
    found, lock = list[str](), threading.Lock()

    def note(run: Run) -> None:
        with lock:
            found.append(run.subject)

    shares = {share.name: share for share in shared(jobs, *(name for row in rows for name in row))}
    work([[shares[name] for name in row] for row in rows], stage.open, note)
    return found


def test_every_job_is_done_once__however_many_pipelines_share_them() -> None:
    stage = Stage()
    found = done(stage, ["ample"], ["scarce"], jobs=JOBS)
    assert sorted(each for each in found if "rest" not in each) == sorted(map(str, JOBS))
    assert set(stage.opened) == set(stage.closed) <= {"ample-0", "scarce-0"}


def test_pipeline_that_has_nothing_to_do_is_not_opened() -> None:
    stage = Stage()
    assert done(stage, ["ample"], jobs=[]) == []
    assert stage.opened == []


def test_pipeline_in_which_a_rule_broke_is_given_up_and_the_next_job_gets_a_fresh_one() -> None:
    stage = Stage(spoilt=frozenset({str(JOBS[1])}))
    found = done(stage, ["ample"], jobs=JOBS[:3])
    assert found == [*map(str, JOBS[:3]), "ample-1 at rest"]
    assert stage.opened == ["ample-0", "ample-1"]


def test_shares_of_a_row_are_done_one_after_the_other() -> None:
    stage = Stage()
    asleep, counting = *shared(JOBS[:1], "asleep"), *shared(JOBS[1:2], "counting")
    found: list[str] = []
    work([[asleep, counting]], stage.open, lambda run: found.append(run.subject))
    assert found == [str(JOBS[0]), "asleep-0 at rest", str(JOBS[1]), "counting-0 at rest"]


def test_error_in_a_pipeline_ends_the_work_as_that_error() -> None:
    @contextmanager
    def broken(name: str) -> Iterator[Stage.Series]:
        raise OSError(name)
        yield

    with pytest.raises(OSError, match="ample-0"):
        work([shared(JOBS, "ample")], broken, lambda _: None)
