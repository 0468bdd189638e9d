from dataclasses import dataclass, field

import pytest

from benchmarks.reserve import Question, Spread, Turn, compare, orders_needed, ratio, ratios_by_round, spread
from benchmarks.worker import Window, Worker, WorkerError

QUESTION = Question(rounds=2, batch=100, seconds=2.0, orders_ahead=1000)


def window(speed: float, *, lag: int = 10_000) -> Window:
    return Window(
        seconds=2.0, orders=round(2 * speed), cpu_seconds=0.1, records_per_batch=1, recoveries=0, lag_records=lag
    )


class ScriptedWorker(Worker):
    """Finds what the script says next."""

    def __init__(self, windows: list[Window]) -> None:
        self.windows = windows
        self.stopped = False

    def measure(self, *, warm_up_seconds: float, seconds: float) -> Window:  # noqa: ARG002 - the script knows
        return self.windows.pop(0)

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Scene:
    """The ports of `compare`: an input that is not read, and workers that follow a script."""

    windows: list[Window]
    loads: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    workers: list[ScriptedWorker] = field(default_factory=list)
    reported: list[Turn] = field(default_factory=list)

    def unread(self) -> int:
        return 100

    def load(self, count: int) -> None:
        self.loads.append(count)

    def start(self, batch: int) -> Worker:
        self.batches.append(batch)
        self.workers.append(ScriptedWorker(self.windows))
        return self.workers[-1]

    def play(self) -> tuple[Turn, ...]:
        return compare(QUESTION, backlog=self, start=self.start, report=self.reported.append)


def test_variants_take_turns() -> None:
    scene = Scene([window(speed) for speed in (100, 1, 100, 1)])
    turns = scene.play()
    assert scene.batches == [100, 1, 100, 1]
    assert [turn.batch for turn in turns] == scene.batches
    assert all(worker.stopped for worker in scene.workers)


def test_orders_lie_ahead_before_each_turn_of_the_batch() -> None:
    scene = Scene([window(speed) for speed in (100, 1, 100, 1)])
    scene.play()
    assert scene.loads == [900, 900]


def test_a_faster_worker_gets_more_orders_ahead() -> None:
    scene = Scene([window(speed) for speed in (5000, 1, 5000, 1)])
    first, *_ = scene.play()
    assert scene.loads == [900, orders_needed(first, QUESTION) - 100]
    assert orders_needed(first, QUESTION) > 5000 * (QUESTION.warm_up_seconds + QUESTION.seconds)


def test_a_turn_that_ran_dry_is_void_and_repeated_with_more_input() -> None:
    scene = Scene([window(100, lag=99), *(window(speed) for speed in (100, 1, 100, 1))])
    turns = scene.play()
    assert scene.batches == [100, 100, 1, 100, 1]
    assert [turn.dry for turn in scene.reported] == [True, False, False, False, False]
    assert not any(turn.dry for turn in turns)
    assert scene.loads[:2] == [900, 1900]


def test_input_that_runs_dry_again_and_again_is_an_error() -> None:
    scene = Scene([window(100, lag=0)] * 10)
    with pytest.raises(WorkerError, match="ran dry"):
        scene.play()
    assert len(scene.reported) == 4


def test_the_ratio_is_that_of_the_medians() -> None:
    speeds = [(100, 300.0), (1, 2.0), (100, 900.0), (1, 4.0), (100, 600.0), (1, 3.0)]
    turns = [Turn(batch, window(speed), dry=False) for batch, speed in speeds]
    assert ratio(turns, 100) == pytest.approx(200)
    assert ratios_by_round(turns, 100) == pytest.approx([150, 225, 200])


def test_a_spread_names_least_median_and_most() -> None:
    assert spread(iter([3.0, 1.0, 2.0, 9.0])) == Spread(1.0, 2.5, 9.0)
