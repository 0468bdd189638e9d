"""Faults meet each other, but for those that must be alone: no other acts beside these."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.turns import Turns

SECONDS_MAX = 5.0
SHORT_SECONDS = 0.05


@contextmanager
def acting(turns: Turns, *, alone: bool) -> Iterator[threading.Event]:
    """Act in a thread until the block ends; yield what is set once it acts."""
    begun, over = threading.Event(), threading.Event()

    def act() -> None:
        with turns.turn(alone=alone):
            begun.set()
            over.wait(SECONDS_MAX)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield begun
    finally:
        over.set()
        thread.join(SECONDS_MAX)


def test_faults_of_different_victims_act_side_by_side() -> None:
    turns = Turns()
    with acting(turns, alone=False) as first, acting(turns, alone=False) as second:
        assert first.wait(SECONDS_MAX)
        assert second.wait(SECONDS_MAX)


@pytest.mark.parametrize("alone", [True, False])
def test_no_fault_acts_beside_one_that_is_alone(alone: bool) -> None:  # noqa: FBT001 - a parameter of the test
    turns = Turns()
    with acting(turns, alone=True) as first:
        assert first.wait(SECONDS_MAX)
        with acting(turns, alone=alone) as second:
            assert not second.wait(SHORT_SECONDS)


def test_one_that_is_alone_comes_before_those_that_come_after_it() -> None:
    """Or it would wait for as long as others meet."""
    turns = Turns()
    with acting(turns, alone=False) as first:
        assert first.wait(SECONDS_MAX)
        with acting(turns, alone=True) as waiting:
            assert not waiting.wait(SHORT_SECONDS)
            with acting(turns, alone=False) as late:
                assert not late.wait(SHORT_SECONDS)
