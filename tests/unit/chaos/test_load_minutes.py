"""Orders of a load may be placed in minutes that are over: out of turn, by so much, and later with each load."""

import time
from itertools import pairwise

from chaos.load import PastMinutes
from chaos.load.minutes import OUT_OF_TURN_MS, STEP_MS
from chaos.run.minutes import COUNTING

HOUR_MS = 3_600_000


def test_orders_come_out_of_turn__by_half_a_minute_at_most() -> None:
    clock = PastMinutes()
    placed = [clock() for _ in range(600)]
    began = placed[0] // STEP_MS * STEP_MS
    assert any(later < earlier for earlier, later in pairwise(placed))
    newest = [max(placed[: number + 1]) for number in range(len(placed))]
    behind = [high - at for high, at in zip(newest, placed, strict=True)]
    assert OUT_OF_TURN_MS / 2 < max(behind) <= OUT_OF_TURN_MS
    assert max(behind) > 1000 * float(COUNTING["PIPELINE_METRICS_LATENESS_SECONDS"]), "some are late"
    assert 9 * 60_000 < placed[-1] - began < 11 * 60_000


def test_minutes_go_on_from_load_to_load_and_all_are_over() -> None:
    clock = PastMinutes()
    first, second = ([clock() for _ in range(180)] for _ in range(2))
    assert min(second) > min(first)
    assert max(second) > max(first)
    assert max(second) < time.time_ns() // 1_000_000 - HOUR_MS


def test_each_pipeline_sees_the_same_steps() -> None:
    def steps() -> list[int]:
        clock = PastMinutes()
        return [later - earlier for earlier, later in pairwise(clock() for _ in range(100))]

    assert steps() == steps()
