"""Which partitions are nobody's: topics as they stand, against the shares of a group's members."""

from common.kafka.coverage import unread
from common.kafka.records import Partition


def test_partitions_that_are_in_no_share_are_unread() -> None:
    shares = [Partition("orders.created", number) for number in (0, 1, 3)]
    assert unread({"orders.created": 5}, shares) == {Partition("orders.created", 2), Partition("orders.created", 4)}


def test_nothing_is_unread_where_every_partition_is_a_share() -> None:
    shares = [Partition("in", 0), Partition("out", 0), Partition("out", 1)]
    assert unread({"in": 1, "out": 2}, shares) == frozenset()


def test_share_of_a_topic_that_is_gone_counts_for_nothing() -> None:
    assert unread({"in": 1}, [Partition("gone", 0)]) == {Partition("in", 0)}
