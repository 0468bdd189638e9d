"""Take jobs through pipelines, some side by side: each from job to job, until it is spoilt or none is left."""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, Protocol

from chaos.history import Result, Run
from chaos.points import Job
from chaos.run.threads import Threads

PIPELINES_MAX = 1_000
"""How many pipelines one share may open: more rules than that are not broken by accident."""


class Series(Protocol):
    """The runs of one open pipeline."""

    def run(self, job: Job) -> Run:
        """Do one job."""

    def at_rest(self) -> Run:
        """Judge the pipeline as a whole, once nothing is left to do in it."""


Open = Callable[[str], AbstractContextManager[Series]]
Note = Callable[[Run], None]


class Share(NamedTuple):
    """What pipelines of one name are for: the jobs that they share with those of other names."""

    name: str
    jobs: "queue.SimpleQueue[Job]"


def shared(jobs: Iterable[Job], *names: str) -> tuple[Share, ...]:
    """Return a share per name in these jobs; whichever is free takes the next one."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    return tuple(Share(name, waiting) for name in names)


def work(rows: Iterable[Sequence[Share]], open_series: Open, report: Note) -> list[Run]:
    """Do all jobs: rows side by side, the shares of a row one after the other; report and return the runs as they end.

    Raises what a pipeline raised.
    """
    done: list[Run] = []
    lock = threading.Lock()

    def note(finished: Run) -> None:
        with lock:
            done.append(finished)
            report(finished)

    threads = Threads()
    for row in rows:
        threads.start(f"series-{row[0].name}", partial(_work, row, open_series, note))
    threads.join()
    return done


def _work(row: Sequence[Share], open_series: Open, note: Note) -> None:
    """Do one row; a pipeline is opened for the first job, and another one after a broken rule."""
    for share in row:
        for number in range(PIPELINES_MAX):
            if (job := _next_of(share)) is None:
                break
            with open_series(f"{share.name}-{number}") as series:
                _run(series, job, share, note)


def _run(series: Series, first: Job, share: Share, note: Note) -> None:
    """Do runs in this pipeline until none is left, or until it is spoilt."""
    job: Job | None = first
    while job is not None:
        finished = series.run(job)
        note(finished)
        if finished.result is not Result.PASSED:
            return
        job = _next_of(share)
    note(series.at_rest())


def _next_of(share: Share) -> Job | None:
    try:
        return share.jobs.get_nowait()
    except queue.Empty:
        return None
