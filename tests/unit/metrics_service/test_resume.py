"""Counting goes on from what is published alone: whatever became of the offsets, the same totals as in one pass."""

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from common.events.volume import MINUTE_MS, MinuteVolume, VolumePartial
from metrics_service.core import totals, windows
from metrics_service.core.proof import Published, published
from metrics_service.core.resume import Resumed, totals_resumed, windows_resumed
from onceloop.records import CommitPoint, Partition
from tests.unit.metrics_service.test_counting import (
    CODEC,
    LOGS,
    PARTIALS,
    SCRIPT,
    Clock,
    LoggedOrder,
    Loop,
    expected,
    last_totals,
    log_of,
    minutes,
    play,
    totals_loop,
    volumes,
    windows_loop,
)

ONE = 1_800_000_000_000
LOST = st.sampled_from(["set ahead", "set back", "forgotten"])


def resume_windows(loop: Loop, how: str) -> None:
    """Lose the offsets, then set them from the partials, as the command does."""
    known = published(volumes(loop.broker.written))
    for at, point in list(loop.broker.committed.items()):
        bare = {"set ahead": CommitPoint(point.offset + 9), "set back": CommitPoint(0), "forgotten": None}[how]
        resumed = windows_resumed(bare, known.get(at, Published()), first=0, topic_id="")
        assert resumed.lost == 0
        loop.broker.committed[at] = resumed.point
    loop.crash()


def resume_totals(loop: Loop, how: str) -> None:
    log = loop.broker.logs[PARTIALS]
    stood = loop.broker.committed[PARTIALS]
    bare = {"set ahead": CommitPoint(stood.offset + 9), "set back": CommitPoint(0), "forgotten": None}[how]
    loop.broker.committed[PARTIALS] = totals_resumed(
        bare,
        [(record.offset, CODEC.decode(VolumePartial, record.value)) for record in log],
        minutes(loop.broker.written),
        refused=(),
        first=0,
        end=log[-1].offset + 1 if log else 0,
        topic_id="",
    ).point
    loop.crash()


def begin(loop: Loop, clock: Clock, script: Sequence[tuple[str, int, int, bool]]) -> None:
    """Follow the script, and leave what is open as it is."""
    for what, number, most, lost in script:
        if what == "read":
            loop.read(share=number, most=most, lost=lost)
        elif what == "wait":
            clock.now_ms += number
            loop.idle(lost=lost)


@given(LOGS, SCRIPT, SCRIPT, LOST)
@settings(deadline=None)
def test_offsets_that_are_lost_while_counting_cost_no_order_and_double_none(
    logged: Mapping[Partition, Sequence[LoggedOrder]],
    script: Sequence[tuple[str, int, int, bool]],
    more: Sequence[tuple[str, int, int, bool]],
    how: str,
) -> None:
    clock = Clock()
    counting = windows_loop({at: log_of(at, each) for at, each in logged.items()}, clock)
    half = len(script) // 2
    begin(counting, clock, script[:half])
    resume_windows(counting, how)
    counted = play(counting, clock, script[half:])
    in_time = [(each.topic, each.partition, each.minute_ms) for each in volumes(counted.written) if not each.late]
    assert len(in_time) == len(set(in_time)), "a partition published the same minute twice"

    adding = totals_loop(counted.written, clock)
    begin(adding, clock, more[: len(more) // 2])
    resume_totals(adding, how)
    added = play(adding, clock, more[len(more) // 2 :])
    assert last_totals(added.written) == expected(logged)


def total(minute_ms: int, revision: int) -> MinuteVolume:
    return MinuteVolume(minute_ms, revision, revision, 0, 0, 0, revision)


def partial(minute_ms: int) -> VolumePartial:
    return VolumePartial("inventory.reserved", 0, minute_ms, 1, 0, 1, 0, until=1)


def test_offset_that_is_right_stays_as_it_is() -> None:
    right = CommitPoint(100, windows.Progress(108, ONE, ONE).to_metadata("id"))
    assert windows_resumed(right, Published(108, ONE), first=50, topic_id="id") == Resumed(right)
    right = CommitPoint(7, totals.Progress(9).to_metadata("id"))
    assert totals_resumed(right, [], [], refused=(), first=3, end=9, topic_id="id") == Resumed(right)


def test_what_retention_took_before_it_was_counted_is_reported() -> None:
    overtaken = CommitPoint(100, windows.Progress(108, ONE, ONE).to_metadata())
    resumed = windows_resumed(overtaken, Published(104, ONE), first=120, topic_id="id")
    assert resumed == Resumed(CommitPoint(120, windows.Progress(120, ONE, ONE).to_metadata("id")), lost=12)
    assert windows_resumed(CommitPoint(100), Published(), first=120, topic_id="").lost == 20
    assert windows_resumed(None, Published(), first=120, topic_id="").lost == 0


def test_totals_go_on_behind_what_is_published_and_refuse_what_was_refused() -> None:
    """Offset 2 was refused: its minute is behind the horizon, so nothing of it is kept in memory again."""
    partials = [(0, partial(ONE)), (2, partial(ONE - MINUTE_MS)), (4, partial(ONE)), (6, partial(ONE))]
    resumed = totals_resumed(
        None,
        partials,
        [total(ONE, 1), total(ONE, 2), total(ONE - 2 * MINUTE_MS, 0)],
        refused={2},
        first=0,
        end=8,
        topic_id="",
    )
    assert resumed.point == CommitPoint(0, totals.Progress(6, ONE, ONE - MINUTE_MS).to_metadata())
