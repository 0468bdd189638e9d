"""Ends that are not clean, offsets to commit, metadata from before a join."""

import sys

import confluent_kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceloop.errors import FatalError
from onceloop.kafka.group_consumer import generation
from onceloop.records import CommitPoint, InputRecord, Partition, next_offsets
from onceloop.unsure_ends import UNSURE_ENDS_MAX, UnsureEnds

A, B, C = (Partition("orders.created", number) for number in range(3))


def record(partition: Partition, offset: int) -> InputRecord:
    return InputRecord(partition, offset, key=None, value=b"%d" % offset)


def test_fences_are_too_many_from_the_fourth_within_a_minute_on() -> None:
    ends = UnsureEnds()
    assert [ends.fences_too_many(at) for at in (0.0, 10.0, 20.0, 59.0, 69.0, 70.0, 200.0)] == [0, 0, 0, 4, 4, 4, 0]


def test_unsure_ends_are_counted_in_a_row__and_the_last_message_says_how_many_were_fenced() -> None:
    ends = UnsureEnds()
    for _ in range(UNSURE_ENDS_MAX):
        ends.count(fenced=True)
    ends.clean()
    for number in range(UNSURE_ENDS_MAX):
        ends.count(fenced=number % 2 == 0)
    with pytest.raises(FatalError, match="21 transactions in a row did not end cleanly, 10 of them because a newer"):
        ends.count(fenced=False)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 10**12)), min_size=1))
def test_offset_to_commit_is_the_one_behind_the_last_record_of_each_partition(
    batch: list[tuple[Partition, int]],
) -> None:
    ordered = sorted(batch)
    points = next_offsets([record(*at) for at in ordered])
    assert points == {
        partition: CommitPoint(max(o for p, o in ordered if p == partition) + 1) for partition, _ in ordered
    }


def test_committing_an_empty_batch_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="commits nothing"):
        next_offsets([])


def test_metadata_of_a_consumer_that_has_not_joined_has_no_generation() -> None:
    consumer = confluent_kafka.Consumer({"group.id": "never-joined", "group.instance.id": "slot-0"})
    try:
        assert generation(consumer.consumer_group_metadata()) == -1
    finally:
        consumer.close()


@pytest.mark.parametrize("number", [-1, 0, 1, 300, 2**31 - 1])
def test_generation_is_read_where_librdkafka_writes_it(number: int) -> None:
    metadata = b"CGMDv2:" + number.to_bytes(4, sys.byteorder, signed=True) + b"group\0member\0"
    assert generation(metadata) == number
