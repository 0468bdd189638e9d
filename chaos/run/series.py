"""Take jobs through lanes, some lanes side by side: each lane from job to job, until one is spoilt or none is left."""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from chaos.history import Conditions, Result, Run
from chaos.points import Job

LANES_MAX = 1_000
"""How many lanes one thread may open: more rules than that are not broken by accident."""


class Scene(Protocol):
    """One open lane."""

    def play(self, job: Job, conditions: Conditions) -> Run:
        """Do one job."""

    def at_rest(self, conditions: Conditions) -> Run:
        """Judge the lane as a whole, once nothing is left to do in it."""


class Share(NamedTuple):
    """What one lane is for: its name, and the jobs that it shares with the other lanes of its kind."""

    name: str
    jobs: "queue.SimpleQueue[Job]"


def shared(jobs: Iterable[Job], *names: str) -> tuple[Share, ...]:
    """Return a share per name in these jobs; whoever is free takes the next one."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    return tuple(Share(name, waiting) for name in names)


def work(
    rows: Iterable[Sequence[Share]],
    open_scene: Callable[[str], AbstractContextManager[Scene]],
    note: Callable[[Run], None],
    conditions: Conditions,
) -> None:
    """Do all jobs: rows side by side, the shares of a row one after the other. Raises what a lane raised."""
    failures: list[BaseException] = []
    runners = [_Runner(row, open_scene, note, conditions, failures) for row in rows]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    if failures:
        raise failures[0]


class _Runner(threading.Thread):
    """Takes jobs one after the other; opens a lane for the first, and another one after a broken rule."""

    def __init__(
        self,
        row: Sequence[Share],
        open_scene: Callable[[str], AbstractContextManager[Scene]],
        note: Callable[[Run], None],
        conditions: Conditions,
        failures: list[BaseException],
    ) -> None:
        super().__init__(name=f"lane-{row[0].name}", daemon=True)
        self._row, self._open_scene, self._note = row, open_scene, note
        self._conditions, self._failures = conditions, failures

    def run(self) -> None:
        """Work until nothing is left to do."""
        try:
            for share in self._row:
                for number in range(LANES_MAX):
                    if (job := _next_of(share)) is None:
                        break
                    with self._open_scene(f"{share.name}-{number}") as scene:
                        self._work(scene, job, share)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for this one
            self._failures.append(error)

    def _work(self, scene: Scene, first: Job, share: Share) -> None:
        """Do runs in this lane until none is left, or until it is spoilt."""
        job: Job | None = first
        while job is not None:
            finished = scene.play(job, self._conditions)
            self._note(finished)
            if finished.result is not Result.PASSED:
                return
            job = _next_of(share)
        self._note(scene.at_rest(self._conditions))


def _next_of(share: Share) -> Job | None:
    try:
        return share.jobs.get_nowait()
    except queue.Empty:
        return None
