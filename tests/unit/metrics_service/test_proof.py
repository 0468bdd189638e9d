"""Committed offsets that lie before what is published are not believed; all others are."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from common.errors import Busy, FatalError
from common.events.volume import MINUTE_MS, VolumePartial
from common.kafka import offset_proof
from common.kafka.records import CommitPoint, Partition
from metrics_service.core.proof import behind, published
from metrics_service.core.windows import Patience, Progress
from metrics_service.io.windows_step import WindowsStep
from tests.unit.metrics_service.test_counting import CODEC

AT, OTHER = Partition("inventory.reserved", 3), Partition("inventory.failed", 0)
ONE = 1_800_000_000_000
IN_TIME = VolumePartial(*AT, ONE, 1, 1, 2, 0, until=104)
LATE = replace(IN_TIME, minute_ms=ONE - MINUTE_MS, late=2, until=108)
RIGHT = CommitPoint(100, Progress(108, ONE, ONE + MINUTE_MS).to_metadata())
OLD = {
    "read to before a late order": Progress(107, ONE, ONE + MINUTE_MS),
    "closed to before a minute that is told": Progress(108, ONE, ONE),
    "of the beginning": Progress(0),
}


class Topic:
    """Partials that stand on the topic, and how often they were read."""

    def __init__(self, *partials: VolumePartial) -> None:
        self.partials, self.read = partials, 0

    def __call__(self) -> Iterable[VolumePartial]:
        self.read += 1
        return self.partials


def step(topic: Topic) -> WindowsStep:
    return WindowsStep(
        codec=CODEC, namespace="", patience=Patience(3000, 2000), now_ms=lambda: ONE, newest_partials=topic
    )


@pytest.mark.parametrize("name", OLD)
def test_offset_is_old_that_is_(name: str) -> None:
    found = published([LATE, IN_TIME])
    assert behind({AT: CommitPoint(90, OLD[name].to_metadata())}, found).keys() == {AT}
    assert not behind({AT: RIGHT}, found)


def test_partition_of_which_nothing_is_published_may_stand_anywhere() -> None:
    assert not behind({OTHER: CommitPoint(0)}, published([IN_TIME]))


def test_offset_without_metadata_is_what_was_read_to() -> None:
    """The first one of all, before anything is published; later it is a group that somebody set by hand."""
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
    assert not counting.decide(()).offsets
    assert not counting.decide(()).offsets
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
    assert "counting minutes anew" in refused.value.cure
