"""Windows of one partition: what is late, what closes when, and what a restart finds again."""

import json

import pytest

from common.events.volume import MINUTE_MS, VolumePartial
from metrics_service.core.windows import Order, Patience, Progress, Windows, restored
from onceloop.records import CommitPoint, Partition

AT = Partition("inventory.reserved", 3)
NOON = 1_800_000_000_000
ONE, TWO, THREE = (NOON + minute * MINUTE_MS for minute in range(3))
PATIENCE = Patience(lateness_ms=3000, idle_ms=2000)
START = CommitPoint(100)


def windows(point: CommitPoint = START, *, now_ms: int = NOON) -> Windows:
    return Windows(AT, point, PATIENCE, now_ms)


def order(placed_at_ms: int, *, reserved: bool = True, units: int = 2) -> Order:
    return Order(placed_at_ms, reserved, units)


def counted(partial: VolumePartial) -> tuple[int, int, int]:
    return partial.minute_ms, partial.reserved + partial.failed, partial.late


def commit(counting: Windows) -> CommitPoint:
    point = counting.point()
    assert point is not None
    counting.settled(point)
    return point


def test_orders_of_a_minute_are_counted_by_verdict__and_units_of_reserved_ones_alone() -> None:
    counting = windows()
    counting.count(100, order(ONE, units=3), NOON)
    counting.count(102, order(ONE + 59_999, reserved=False, units=50), NOON)
    counting.count(103, order(TWO + 3000), NOON)
    assert counting.partials() == [VolumePartial("inventory.reserved", 3, ONE, 1, 1, 3, 0, until=104)]


def test_window_closes_once_the_watermark_passes_its_end_by_the_allowed_lateness__not_before() -> None:
    counting = windows()
    counting.count(100, order(ONE), NOON)
    counting.count(101, order(TWO + 2999), NOON)
    assert not counting.partials()
    counting.count(102, order(TWO + 3000), NOON)
    assert [counted(partial) for partial in counting.partials()] == [(ONE, 1, 0)]


def test_order_within_the_allowed_lateness_is_in_time() -> None:
    counting = windows()
    for offset, placed in enumerate((ONE, TWO + 2999, ONE + 1, TWO + 3000), 100):
        counting.count(offset, order(placed), NOON)
    assert [counted(partial) for partial in counting.partials()] == [(ONE, 2, 0)]


def test_late_orders_are_distinguished_by_minute() -> None:
    counting = windows()
    for offset, placed in enumerate((ONE, TWO, THREE + 3000, ONE, TWO, ONE), 100):
        counting.count(offset, order(placed), NOON)
    assert [counted(partial) for partial in counting.partials()] == [(ONE, 1, 0), (TWO, 1, 0), (ONE, 2, 2), (TWO, 1, 1)]


def test_order_of_an_early_minute_that_was_not_closed_is_not_late() -> None:
    """The watermark is far ahead, but lateness depends on closed windows alone."""
    counting = windows()
    counting.count(100, order(THREE + 3000), NOON)
    counting.count(101, order(ONE), NOON)
    assert [counted(partial) for partial in counting.partials()] == [(ONE, 1, 0)]


def test_quiet_partition_is_closed_by_the_wall_clock__once_it_was_quiet_and_the_minute_is_over() -> None:
    counting = windows()
    counting.count(100, order(ONE), now_ms=TWO + 2500)
    assert not counting.idle(TWO + 3000), "the minute is over, but the partition is not quiet"
    assert not counting.idle(TWO + 4499)
    assert counting.idle(TWO + 4500)
    counting.close_idle(TWO + 4500)
    assert [counted(partial) for partial in counting.partials()] == [(ONE, 1, 0)]
    assert not counting.idle(TWO + 99_999), "nothing is open"


def test_window_is_not_closed_by_the_wall_clock_before_its_end_and_the_allowed_lateness() -> None:
    counting = windows()
    counting.count(100, order(ONE), now_ms=ONE)
    assert not counting.idle(TWO + 2999)
    assert counting.idle(TWO + 3000)


def test_partition_that_is_not_read_because_others_are_is_not_quiet() -> None:
    counting = windows()
    counting.count(100, order(ONE), now_ms=TWO)
    counting.wait(TWO + 9000)
    assert not counting.idle(TWO + 10_999)
    assert counting.idle(TWO + 11_000)


def test_late_orders_do_not_keep_an_open_window_from_closing() -> None:
    counting = windows()
    for offset, placed in enumerate((ONE, TWO + 3000), 100):
        counting.count(offset, order(placed), now_ms=TWO + 3000)
    for offset in range(102, 110):
        counting.count(offset, order(ONE), now_ms=THREE + 500 * offset)
    assert counting.idle(THREE + 3000)


def test_clock_that_is_put_back_holds_no_window_open() -> None:
    counting = windows(now_ms=NOON + 10 * MINUTE_MS)
    counting.count(100, order(ONE), now_ms=NOON + 10 * MINUTE_MS)
    assert not counting.idle(TWO + 3000)
    assert counting.idle(TWO + 5000)


def test_committed_is_the_first_record_of_the_oldest_open_window__with_what_was_read() -> None:
    counting = windows()
    for offset, placed in ((100, ONE), (101, TWO + 1), (105, ONE), (106, TWO + 3000)):
        counting.count(offset, order(placed), NOON)
    assert commit(counting) == CommitPoint(101, Progress(107, TWO + 3000, TWO).to_metadata())
    counting.close_idle(THREE + 3000)
    assert commit(counting) == CommitPoint(107, Progress(107, TWO + 3000, THREE).to_metadata())
    assert counting.point() is None, "nothing changed since"


def test_restart_fills_the_open_windows_to_the_order_and_publishes_nothing_again() -> None:
    counting = windows()
    placed = {100: ONE, 101: TWO + 1, 105: ONE, 106: TWO + 3000, 107: ONE}
    for offset, at in placed.items():
        counting.count(offset, order(at), NOON)
    point = commit(counting)

    again = windows(point)
    assert again.refilling
    assert again.point() is None, "what is committed must not fall back"
    for offset, at in placed.items():
        if offset >= point.offset:
            again.count(offset, order(at), NOON)
    assert not again.refilling
    assert not again.partials(), "105 is in a closed window, 107 was late: both are published"
    again.close_idle(THREE + 3000)
    assert [counted(partial) for partial in again.partials()] == [(TWO, 2, 0)]


def test_windows_that_are_being_filled_again_do_not_close() -> None:
    again = windows(CommitPoint(100, Progress(103, ONE, 0).to_metadata()))
    again.count(100, order(ONE), NOON)
    assert not again.idle(TWO + 60_000)
    again.count(102, order(ONE), NOON)
    assert again.idle(TWO + 60_000)


def test_watermark_outlives_a_restart() -> None:
    """Or a minute that it passed would stay open for orders that are late without the restart."""
    counting = windows()
    counting.count(100, order(ONE), NOON)
    counting.count(101, order(THREE + MINUTE_MS), NOON)
    again = windows(commit(counting))
    again.count(101, order(THREE + MINUTE_MS), NOON)
    again.count(102, order(TWO), NOON)
    assert [counted(partial) for partial in again.partials()] == [(TWO, 1, 0)]


def test_record_without_an_order_is_met_once() -> None:
    assert windows().skip(100)
    assert not windows(CommitPoint(100, Progress(103).to_metadata())).skip(102)
    assert windows(CommitPoint(100, Progress(103).to_metadata())).skip(103)


def test_offset_that_was_never_counted_from_begins_there() -> None:
    assert restored(CommitPoint(7)) == Progress(7)


def test_metadata_is_far_below_the_brokers_limit() -> None:
    longest = Progress(2**63 - 1, 2**53, 2**53)
    assert len(longest.to_metadata()) < 200
    assert restored(CommitPoint(1, longest.to_metadata())) == longest


@pytest.mark.parametrize("text", ["{}", "[]", "what a person typed", json.dumps({"v": 2, "p": 1, "w": 0, "e": 0})])
def test_metadata_of_another_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown version|Expecting"):
        windows(CommitPoint(7, text))
