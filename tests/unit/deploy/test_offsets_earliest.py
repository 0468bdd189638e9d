"""Which offsets of a group that may do its work again are believed."""

import pytest

from deploy.offsets.earliest import judged
from onceloop.kafka.topic_mark import mark, marked_id, of_other_topics
from onceloop.records import CommitPoint, Partition

OURS, BARE, OTHERS = mark("an-id"), "", mark("another")


@pytest.mark.parametrize(
    ("point", "wrong"),
    [
        (CommitPoint(7, OURS), ""),
        (CommitPoint(5, BARE), ""),
        (CommitPoint(7, BARE), "set by hand"),
        (CommitPoint(7, OTHERS), "recreated"),
        (CommitPoint(3, OURS), "up to 2 records are lost"),
        (CommitPoint(10, OURS), "behind the end, 9"),
        (CommitPoint(7, "an older version's words"), "set by hand"),
        (None, "none"),
    ],
)
def test_offset_is_believed_that_the_product_committed_for_this_topic_and_that_is_there(
    point: CommitPoint | None, wrong: str
) -> None:
    found = judged(point, first=5, end=9, topic_id="an-id", unmarked_is_right=False)
    assert wrong in found
    assert bool(wrong) == bool(found)


def test_position_of_the_projection_without_a_mark_is_an_older_version_s() -> None:
    assert judged(CommitPoint(7), first=5, end=9, topic_id="an-id", unmarked_is_right=True) == ""


def test_mark_is_read_back__and_nothing_else_is_one() -> None:
    assert marked_id(CommitPoint(1, mark("an-id"))) == "an-id"
    assert [marked_id(CommitPoint(1, text)) for text in ("", '{"v":1}', "topic-id", "topic-id a b")] == [None] * 4


def test_offsets_of_a_recreated_topic_are_found__unmarked_ones_are_not_judged() -> None:
    points = {
        Partition("t", 0): CommitPoint(1, OTHERS),
        Partition("t", 1): CommitPoint(1),
        Partition("u", 0): CommitPoint(1),
        Partition("v", 1): CommitPoint(1, OURS),
    }
    assert of_other_topics(points, {"t": "an-id", "u": "an-id", "v": "an-id"}) == {"t": "another"}
