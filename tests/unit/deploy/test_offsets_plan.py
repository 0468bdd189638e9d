"""Where a group belongs, by what topics and tables prove of each partition."""

from dataclasses import replace

import pytest

from deploy.offsets.plan import Facts, refusals

SOUND = Facts(number=0, first=0, end=100, committed=50, event=50, letter=None, noted=50, decided=50)
TOPIC = "orders.created"


def refused(facts: Facts, *, skip_removed: bool = False) -> str:
    return "\n".join(f"{what}; {cure}" for what, cure in refusals(TOPIC, [facts], skip_removed=skip_removed))


@pytest.mark.parametrize(
    ("facts", "target"),
    [
        (SOUND, 50),
        (replace(SOUND, committed=None), 50),
        (replace(SOUND, committed=0), 50),
        (replace(SOUND, committed=100), 50),
        (replace(SOUND, noted=40), 50),
        (replace(SOUND, event=48, noted=50), 50),
        (replace(SOUND, decided=80), 50),
        (replace(SOUND, letter=55), 55),
        (Facts(0, first=0, end=100, committed=100), 0),
        (Facts(0, first=7, end=100, committed=None), 7),
        (Facts(0, first=0, end=100, committed=0, decided=20), 0),
    ],
    ids=[
        "where it stands",
        "forgotten",
        "set back",
        "set ahead of what is decided",
        "the note is a batch behind",
        "the last orders are duplicates, which no event answers",
        "the last batch is decided and not visible",
        "the last record is a dead letter",
        "nothing is answered, the group was set ahead",
        "nothing is answered, and a new group begins at what the topic still holds",
        "nothing is visible of what is decided",
    ],
)
def test_group_belongs_behind_the_last_record_that_is_known_to_be_answered(facts: Facts, target: int) -> None:
    assert facts.target == target
    assert not refused(facts)


def test_visible_event_without_its_decision_is_refused() -> None:
    assert "events are visible up to 49, decisions end before 30" in refused(replace(SOUND, decided=30))
    assert "decisions end before 0" in refused(replace(SOUND, decided=None))


def test_topic_that_ends_before_what_is_answered_is_refused() -> None:
    assert "ends at 20, but is answered up to 49" in refused(replace(SOUND, end=20))


@pytest.mark.parametrize(
    ("facts", "removed"),
    [
        (replace(SOUND, first=60), 10),
        (replace(SOUND, first=50), 0),
        (Facts(0, first=60, end=100, committed=20), 40),
        (Facts(0, first=60, end=100, committed=None), 0),
        (Facts(0, first=60, end=100, committed=60), 0),
    ],
    ids=["behind what is answered", "up to it", "nothing answered", "a new group", "a group that began there"],
)
def test_orders_that_left_the_topic_unanswered_are_skipped_only_on_purpose(facts: Facts, removed: int) -> None:
    assert facts.removed == removed
    assert ("--skip-removed" in refused(facts)) is bool(removed)
    assert not refused(facts, skip_removed=True)
    assert facts.target >= facts.first
