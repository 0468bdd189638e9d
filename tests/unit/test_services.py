"""The table of services against the table of topics: every reader is one service's process, and of no other."""

from collections import Counter

from common.topics import GROUPS
from services.table import SERVICES


def test_every_group_that_reads_a_topic_is_one_services() -> None:
    assert Counter(group for service in SERVICES for group in service.groups) == Counter(GROUPS)


def test_names_are_unique_and_leave_a_slot_recognisable() -> None:
    names = [service.name for service in SERVICES]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.rpartition("-")[2].isdecimal()] == []
