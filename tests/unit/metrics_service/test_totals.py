"""Totals of minutes: partials add up, revisions rise, what is too old is refused, nothing is counted twice."""

import pytest

from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial
from metrics_service.core.totals import Progress, Totals, restored
from onceloop.records import CommitPoint

NOON = 1_800_000_000_000
HOUR_MS = 60 * MINUTE_MS
ONE, TWO, THREE = (NOON + minute * MINUTE_MS for minute in range(3))
START = CommitPoint(10)


def totals(point: CommitPoint = START) -> Totals:
    return Totals(point, horizon_ms=HOUR_MS)


def partial(minute_ms: int, *, reserved: int = 2, failed: int = 1, late: int = 0) -> VolumePartial:
    return VolumePartial("inventory.reserved", 0, minute_ms, reserved, failed, 5 * reserved, late, 1)


def total(minute_ms: int, *, reserved: int, failed: int, late: int = 0, revision: int) -> MinuteVolume:
    return MinuteVolume(minute_ms, reserved + failed, reserved, failed, 5 * reserved, late, revision)


def commit(adding: Totals) -> CommitPoint:
    point = adding.point()
    assert point is not None
    adding.settled(point)
    return point


def test_total_is_the_sum_of_its_partials__its_revision_their_number() -> None:
    adding = totals()
    for offset, minute in ((10, ONE), (12, TWO), (13, ONE)):
        assert adding.merge(offset, partial(minute))
    assert adding.totals() == [
        total(ONE, reserved=4, failed=2, revision=2),
        total(TWO, reserved=2, failed=1, revision=1),
    ]


def test_late_orders_raise_the_revision_of_their_minute_alone() -> None:
    adding = totals()
    adding.merge(10, partial(ONE))
    adding.merge(11, partial(TWO))
    commit(adding)
    adding.merge(12, partial(ONE, reserved=1, failed=0, late=1))
    assert adding.totals() == [total(ONE, reserved=3, failed=1, late=1, revision=2)]


def test_restart_fills_memory_and_publishes_nothing_again() -> None:
    adding = totals()
    minutes = {10: ONE, 12: TWO, 13: ONE}
    for offset, minute in minutes.items():
        adding.merge(offset, partial(minute))
    point = commit(adding)
    assert point == CommitPoint(10, Progress(14).to_metadata())

    again = totals(point)
    for offset, minute in minutes.items():
        assert again.refilling
        assert again.point() is None
        assert again.merge(offset, partial(minute))
    assert not again.refilling
    assert not again.changed
    again.merge(14, partial(ONE))
    assert again.totals() == [total(ONE, reserved=6, failed=3, revision=3)]


def test_minute_behind_the_horizon_is_forgotten__its_partials_refused_once_and_the_offset_moves_on() -> None:
    adding = totals()
    adding.merge(10, partial(ONE))
    adding.merge(11, partial(ONE + HOUR_MS))
    adding.merge(12, partial(TWO + HOUR_MS))
    commit(adding)
    adding.forget(THREE + HOUR_MS)
    point = commit(adding)
    assert point == CommitPoint(11, Progress(13, kept_from_ms=TWO).to_metadata())
    assert not adding.merge(13, partial(ONE))
    assert not adding.changed
    assert commit(adding).offset == 11

    again = totals(CommitPoint(11, Progress(14, kept_from_ms=TWO).to_metadata()))
    assert again.merge(11, partial(ONE + HOUR_MS))
    assert again.merge(12, partial(TWO + HOUR_MS))
    assert again.merge(13, partial(ONE)), "refused before: nothing is published again"
    assert not again.totals()


def test_minute_in_the_future_moves_no_horizon() -> None:
    adding = totals()
    adding.merge(10, partial(ONE))
    adding.merge(11, partial(ONE + 1000 * HOUR_MS))
    commit(adding)
    adding.forget(now_ms=TWO)
    assert adding.merge(12, partial(ONE))


def test_minutes_without_orders_are_published_as_zero__from_the_first_that_is_watched() -> None:
    adding = totals()
    assert adding.empty_minutes_due(TWO + 1)
    adding.add_empty(TWO + 1)
    assert adding.changed, "that it began is worth a commit: a crash must not lose the minute that runs"
    assert not adding.totals()
    commit(adding)
    assert not adding.empty_minutes_due(THREE - 1)
    adding.merge(10, partial(THREE))
    commit(adding)
    adding.add_empty(THREE + 2 * MINUTE_MS)
    assert adding.totals() == [
        total(TWO, reserved=0, failed=0, revision=0),
        total(THREE + MINUTE_MS, reserved=0, failed=0, revision=0),
    ]
    assert restored(commit(adding)).empty_to_ms == THREE + 2 * MINUTE_MS
    assert not adding.changed


def test_minutes_that_passed_while_no_process_ran_are_published_as_zero__within_the_horizon() -> None:
    again = totals(CommitPoint(10, Progress(10, 0, ONE).to_metadata()))
    again.add_empty(THREE)
    assert [each.minute_ms for each in again.totals()] == [ONE, TWO]
    again = totals(CommitPoint(10, Progress(10, 0, ONE).to_metadata()))
    again.add_empty(ONE + 500 * HOUR_MS)
    assert len(again.totals()) == 60


def test_order_of_a_minute_that_was_zero_raises_its_revision_above_it() -> None:
    adding = totals(CommitPoint(10, Progress(10, 0, ONE).to_metadata()))
    adding.add_empty(TWO)
    commit(adding)
    adding.merge(10, partial(ONE))
    assert [each.revision for each in adding.totals()] == [1]


def test_record_without_a_partial_is_met_once() -> None:
    assert totals().skip(10)
    assert not totals(CommitPoint(10, Progress(12).to_metadata())).skip(11)


@pytest.mark.parametrize("text", ["{}", "[]", '{"v":9}'])
def test_metadata_of_another_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown version"):
        totals(CommitPoint(10, text))
