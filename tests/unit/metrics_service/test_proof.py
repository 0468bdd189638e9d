"""Committed offsets that lie before what is published are not believed; all others are."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from common.events.volume import MINUTE_MS, VolumePartial
from metrics_service.core.proof import behind, published, topic_id
from metrics_service.core.windows import Patience, Progress, Windows, restored
from metrics_service.io.start_guard import StartGuard
from metrics_service.io.windows_step import WindowsStep
from onceloop import offset_proof
from onceloop.errors import Busy, FatalError, ReportedError
from onceloop.records import CommitPoint, Keep, Partition
from tests.unit.metrics_service.test_counting import CODEC

AT, OTHER = Partition("inventory.reserved", 3), Partition("inventory.failed", 0)
ONE = 1_800_000_000_000
IN_TIME = VolumePartial(*AT, ONE, 1, 1, 2, 0, until=104)
LATE = replace(IN_TIME, minute_ms=ONE - MINUTE_MS, late=2, until=108)
RIGHT = CommitPoint(100, Progress(108, ONE, ONE + MINUTE_MS).to_metadata())
OLD = {
    "read to before a late order": Progress(107, ONE, ONE + MINUTE_MS),
    "closed to before a minute that is published": Progress(108, ONE, ONE),
    "of the beginning": Progress(0),
}


class Topic:
    """Partials that stand on the topic, and how often they were read."""

    def __init__(self, *partials: VolumePartial) -> None:
        self.partials, self.read = partials, 0

    def __call__(self) -> Iterable[VolumePartial]:
        self.read += 1
        return self.partials


def guard(**earliest: int) -> StartGuard:
    return StartGuard(
        group="metrics",
        topic_ids={AT.topic: "an id"},
        earliest=lambda partitions: {partition: earliest.get("earliest", 0) for partition in partitions},
    )


def step(topic: Topic) -> WindowsStep:
    return WindowsStep(
        codec=CODEC,
        namespace="",
        patience=Patience(3000, 2000),
        now_ms=lambda: ONE,
        newest_partials=topic,
        guard=guard(),
    )


@pytest.mark.parametrize("name", OLD)
def test_offset_is_old_that_is_(name: str) -> None:
    found = published([LATE, IN_TIME])
    assert behind({AT: CommitPoint(90, OLD[name].to_metadata())}, found).keys() == {AT}
    assert not behind({AT: RIGHT}, found)


def test_partition_of_which_nothing_is_published_may_stand_anywhere() -> None:
    assert not behind({OTHER: CommitPoint(0)}, published([IN_TIME]))


def test_offset_without_metadata_is_what_was_read_to() -> None:
    """The first one of all, before anything is published; later it is a group that was set by hand."""
    assert not behind({AT: CommitPoint(100)}, {})
    assert behind({AT: CommitPoint(200)}, published([IN_TIME])).keys() == {AT}


def test_nothing_is_counted_on_old_offsets__and_the_topic_is_read_once_until_they_are_right() -> None:
    topic = Topic(IN_TIME, LATE)
    counting = step(topic)
    for _ in range(2):
        counting.reset({AT: CommitPoint(0)})
        with pytest.raises(Busy, match=r"inventory\.reserved\[3\] read to 0 of 108"):
            counting.decide(())
    counting.reset({AT: RIGHT})
    assert counting.decide(()) == Keep()
    assert counting.decide(()) == Keep()
    assert topic.read == 1
    counting.reset({AT: RIGHT})
    counting.decide(())
    assert topic.read == 2, "each rewind is proven"


def test_offsets_that_stay_behind_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offset_proof, "OLD_OFFSETS_SECONDS_MAX", -1.0)
    counting = step(Topic(IN_TIME))
    counting.reset({AT: CommitPoint(0)})
    with pytest.raises(FatalError, match="before what is published") as refused:
        counting.decide(())
    assert "python -m metrics_service repair" in refused.value.cure


def test_offset_without_metadata_is_lawful_at_the_earliest_record_alone() -> None:
    looked = guard(earliest=50)
    looked.demand({AT: CommitPoint(50), OTHER: RIGHT})
    looked.give()
    looked.demand({AT: CommitPoint(51)})
    with pytest.raises(FatalError, match=r"set by hand, ahead of what is counted: inventory.reserved\[3\] at 51"):
        looked.give()


def test_offset_of_a_recreated_topic_is_refused_and_one_of_an_older_version_is_not() -> None:
    looked = guard()
    looked.demand({AT: RIGHT})
    looked.demand({AT: CommitPoint(7, Progress(7).to_metadata("an id"))})
    with pytest.raises(ReportedError, match="was recreated"):
        looked.demand({AT: CommitPoint(7, Progress(7).to_metadata("another"))})


def test_who_counts_commits_the_id_of_the_topic() -> None:
    windows = Windows(AT, CommitPoint(0), Patience(3000, 2000), 0, "an id")
    windows.skip(0)
    point = windows.point()
    assert point is not None
    assert topic_id(point) == "an id"
    assert restored(point) == Progress(1)
