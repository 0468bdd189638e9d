import pytest

from benchmarks.decided import GENERIC, OWN, StoreTurn, compare_stores, store_ratio, store_ratios
from benchmarks.decided_app import order_id
from benchmarks.worker import Window, Worker, WorkerError
from tests.factories import make_codec, make_order


class Scripted:
    """A worker that measures what it was given."""

    def __init__(self, orders: int, *, lag_records: int) -> None:
        self._window = Window(1.0, orders, 0.5, 500.0, 0, lag_records)

    def measure(self, *, warm_up_seconds: float, seconds: float) -> Window:
        assert (warm_up_seconds, seconds) == (1.0, 2.0)
        return self._window

    def stop(self) -> None:
        """End at once."""


def turns(own: list[int], generic: list[int], *, lag_records: int = 1) -> list[StoreTurn]:
    left = {OWN: iter(own), GENERIC: iter(generic)}

    def start(variant: str) -> Worker:
        return Scripted(next(left[variant]), lag_records=lag_records)  # type: ignore[return-value]

    return compare_stores(
        {OWN: lambda: start(OWN), GENERIC: lambda: start(GENERIC)},
        rounds=len(own),
        seconds=2.0,
        warm_up_seconds=1.0,
        report=lambda _: None,
    )


def test_variants_take_turns_and_the_ratio_is_that_of_the_medians() -> None:
    found = turns([100, 80, 90], [60, 70, 50])
    assert [turn.variant for turn in found] == [OWN, GENERIC] * 3
    assert store_ratio(found) == pytest.approx(60 / 90)
    assert store_ratios(found) == pytest.approx([0.6, 70 / 80, 50 / 90])


def test_turn_that_ran_dry_says_nothing() -> None:
    with pytest.raises(WorkerError, match="ran dry"):
        turns([100], [100], lag_records=0)


def test_key_of_an_order_is_its_id_as_it_stands_in_the_bytes() -> None:
    order = make_order()
    assert order_id(make_codec().encode(order)) == order.order_id.encode()
