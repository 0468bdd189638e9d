"""What of a fetch may be processed and what it commits: nothing lost, nothing twice."""

import sys

import confluent_kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FatalError
from common.kafka.loop_core import (
    UNSURE_ENDS_MAX,
    Accepted,
    Gap,
    Gaps,
    UnsureEnds,
    accept,
    complaint,
    generation,
    next_offsets,
)
from common.kafka.records import CommitPoint, InputRecord, Partition

A, B, C = (Partition("orders.created", number) for number in range(3))
OWNED = frozenset({A, B})


def record(partition: Partition, offset: int) -> InputRecord:
    return InputRecord(partition, offset, key=None, value=b"%d" % offset)


def accepted(found: Accepted | Gap) -> list[tuple[Partition, int]]:
    assert isinstance(found, Accepted)
    return [(r.partition, r.offset) for r in found.records]


def test_records_that_are_due_are_accepted_in_order_of_arrival() -> None:
    batch = [record(A, 4), record(B, 9), record(A, 5)]
    assert accepted(accept(batch, owned=OWNED, due={A: 4, B: 9})) == [(A, 4), (B, 9), (A, 5)]


def test_records_of_a_partition_that_moved_away_are_dropped() -> None:
    batch = [record(A, 4), record(C, 0), record(A, 5)]
    assert accepted(accept(batch, owned=OWNED, due={A: 4, B: 0})) == [(A, 4), (A, 5)]


def test_records_below_the_due_offset_were_processed_and_are_dropped() -> None:
    batch = [record(A, 2), record(A, 3), record(A, 4)]
    assert accepted(accept(batch, owned=OWNED, due={A: 4, B: 0})) == [(A, 4)]


def test_record_that_comes_twice_in_one_fetch_is_accepted_once() -> None:
    assert accepted(accept([record(A, 4), record(A, 4)], owned=OWNED, due={A: 4, B: 0})) == [(A, 4)]


def test_missing_record_is_a_gap_and_nothing_behind_it_is_accepted() -> None:
    batch = [record(A, 4), record(A, 6)]
    assert accept(batch, owned=OWNED, due={A: 4, B: 0}) == Gap(A, due=5, found=6)


def test_gap_of_a_partition_that_moved_away_is_none() -> None:
    assert accepted(accept([record(C, 77)], owned=OWNED, due={A: 4, B: 0})) == []


def test_known_hole_is_passed__and_only_that_one() -> None:
    holes = frozenset({(A, 5)})
    assert accepted(accept([record(A, 4), record(A, 6)], owned=OWNED, due={A: 4, B: 0}, holes=holes)) == [
        (A, 4),
        (A, 6),
    ]
    assert accept([record(A, 4), record(A, 8)], owned=OWNED, due={A: 3, B: 0}, holes=holes) == Gap(A, due=3, found=4)
    assert accept([record(B, 6)], owned=OWNED, due={A: 4, B: 5}, holes=holes) == Gap(B, due=5, found=6)


# --- topics whose writers commit transactions -------------------------------------------------------------------------

SOUGHT = {A: 4}
"""A belongs to such a topic and was last sought to 4; B belongs to none."""


def test_markers_between_records_are_passed_without_a_doubt() -> None:
    found = accept([record(A, 4), record(A, 6), record(A, 9)], owned=OWNED, due={A: 4, B: 0}, sought=SOUGHT)
    assert accepted(found) == [(A, 4), (A, 6), (A, 9)]
    assert isinstance(found, Accepted)
    assert not found.doubtful
    assert accepted(accept([record(A, 9)], owned=OWNED, due={A: 7, B: 0}, sought=SOUGHT)) == [(A, 9)]


def test_first_record_behind_a_seek_that_is_not_the_due_one_makes_its_partition_doubtful__and_no_other() -> None:
    batch = [record(A, 6), record(B, 0), record(A, 7)]
    found = accept(batch, owned=OWNED, due={A: 4, B: 0}, sought=SOUGHT)
    assert accepted(found) == [(B, 0)]
    assert isinstance(found, Accepted)
    assert found.doubtful == {A: Gap(A, due=4, found=6)}


def test_doubt_that_is_met_again_is_a_marker__and_another_one_a_new_doubt() -> None:
    known = {A: Gap(A, due=4, found=6)}
    found = accept([record(A, 6), record(A, 8)], owned=OWNED, due={A: 4, B: 0}, sought=SOUGHT, known=known)
    assert accepted(found) == [(A, 6), (A, 8)]
    found = accept([record(A, 7)], owned=OWNED, due={A: 4, B: 0}, sought=SOUGHT, known=known)
    assert isinstance(found, Accepted)
    assert found.doubtful == {A: Gap(A, due=4, found=7)}


def test_missing_record_of_a_dense_topic_is_a_gap__beside_a_sparse_one_too() -> None:
    assert accept([record(A, 6), record(B, 2)], owned=OWNED, due={A: 4, B: 1}, sought=SOUGHT) == Gap(B, 1, 2)


@given(
    offsets=st.sets(st.integers(0, 30), min_size=1),
    sought=st.integers(0, 30),
    size=st.integers(1, 5),
    lost=st.booleans(),
)
def test_sparse_partition_is_read_once_and_whole_from_any_seek__also_if_that_is_lost_once(
    *, offsets: set[int], sought: int, size: int, lost: bool
) -> None:
    """Model of the loop: what a seek leads to, or, where it is lost, whatever the client stood at."""
    log = [*sorted(offsets), 100]
    wanted = [offset for offset in log if offset >= sought]
    due, known, read = {A: sought}, dict[Partition, Gap](), list[int]()
    position = (sought + 40) // 2 if lost else sought
    for _ in range(2 * len(log) + 3):
        batch = [record(A, offset) for offset in log if offset >= position][:size]
        position = batch[-1].offset + 1 if batch else position
        found = accept(batch, owned=frozenset({A}), due=due, sought={A: sought}, known=known)
        assert isinstance(found, Accepted)
        known.update(found.doubtful)
        position = due[A] if found.doubtful else position
        for accepted_record in found.records:
            read.append(accepted_record.offset)
            due[A] = accepted_record.offset + 1
    assert read == wanted


FETCHES_OF_OWNED = st.lists(st.tuples(st.sampled_from([A, B]), st.integers(0, 12)), max_size=40)


# --- gaps -------------------------------------------------------------------------------------------------------------


def test_gaps_of_two_partitions_that_alternate_are_both_learned() -> None:
    """Fetches of several partitions come in any order: the other one's gap used to take the place of the first."""
    gaps = Gaps()
    of_a, of_b = Gap(A, due=5, found=7), Gap(B, due=2, found=3)
    for met in (of_a, of_b, of_a):
        gaps = gaps.meet(met)
    assert gaps.is_hole(of_a)
    assert not gaps.is_hole(of_b)
    gaps = gaps.meet(of_b)
    assert gaps.holes == {(A, 5), (B, 2)}


def test_gap_whose_record_came_after_all_is_a_first_sight_again() -> None:
    """It came, its batch failed, and the rewind got lost: taken for a hole, the record would be lost."""
    gap = Gap(A, due=5, found=7)
    found = accept([record(A, 5)], owned=OWNED, due={A: 5, B: 0})
    assert isinstance(found, Accepted)
    gaps = Gaps().meet(gap).accepted(found.due)
    assert not gaps.meet(gap).is_hole(gap)


def test_hole_is_known_until_the_group_is_past_it() -> None:
    gap = Gap(A, due=5, found=7)
    gaps = Gaps().meet(gap).meet(gap)
    assert gaps.advanced({A: 5, B: 9}).is_hole(gap)
    assert not gaps.advanced({A: 8, B: 0}).is_hole(gap)


LOGS = st.fixed_dictionaries({partition: st.sets(st.integers(0, 12), max_size=8) for partition in (A, B, C)})


@given(LOGS, st.data())
def test_any_run_of_empty_offsets_is_learned_within_two_rewinds__in_whatever_order_partitions_are_fetched(
    logs: dict[Partition, set[int]], data: st.DataObject
) -> None:
    """Model of the loop: each rewind lets the client begin with another partition, as the real one does."""
    owned, end = frozenset(logs), 13
    empty = sum(
        offset not in offsets and (offset == 0 or offset - 1 in offsets)
        for offsets in logs.values()
        for offset in range(end)
    )
    committed, position = dict.fromkeys(logs, 0), dict.fromkeys(logs, 0)
    gaps, read, rewinds = Gaps(), list[tuple[Partition, int]](), 0
    while any(at <= end for at in committed.values()):
        batch = []
        for partition in data.draw(st.permutations(sorted(logs))):
            wanted = [offset for offset in (*sorted(logs[partition]), end) if offset >= position[partition]]
            fetched = wanted[: data.draw(st.integers(0, 3))] or wanted[:1]
            batch += [record(partition, offset) for offset in fetched]
        position |= {each.partition: each.offset + 1 for each in batch}
        found = accept(batch, owned=owned, due=committed, holes=gaps.holes)
        if isinstance(found, Gap):
            gaps, position, rewinds = gaps.meet(found), dict(committed), rewinds + 1
            assert rewinds <= 2 * empty
            continue
        read += [(each.partition, each.offset) for each in found.records]
        committed = dict(found.due)
        gaps = gaps.accepted(committed).advanced(committed)
    assert sorted(read) == sorted((partition, offset) for partition in logs for offset in (*logs[partition], end))
    assert gaps == Gaps()


# --- ends that are not clean ------------------------------------------------------------------------------------------


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


# --- what a plan may commit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "refusal"),
    [
        ({A: 6, B: 3}, ""),
        ({A: 5}, ""),
        ({A: 4}, ""),
        ({}, ""),
        ({A: 7}, "the records from 6 on would be lost"),
        ({A: 3}, "the records up to 4 would come again"),
        ({A: 6, C: 1}, "belongs to another member"),
    ],
    ids=["all", "a part, the step keeps the rest", "where it stands", "nothing", "ahead", "behind", "not owned"],
)
def test_offsets_that_would_lose_or_repeat_records_are_refused_by_name(
    offsets: dict[Partition, int], refusal: str
) -> None:
    points = {partition: CommitPoint(offset) for partition, offset in offsets.items()}
    found = complaint(points, due={A: 6, B: 3}, committed={A: 4, B: 3})
    assert (refusal in found) if refusal else (found == "")


@given(FETCHES_OF_OWNED, st.integers(0, 5))
def test_offsets_of_the_accepted_records_are_never_refused(fetched: list[tuple[Partition, int]], first: int) -> None:
    committed = {A: first, B: first}
    found = accept([record(*at) for at in fetched], owned=OWNED, due=committed)
    if isinstance(found, Accepted) and found.records:
        assert complaint(next_offsets(found.records), due=found.due, committed=committed) == ""


def test_nothing_fetched_is_nothing_accepted() -> None:
    assert accepted(accept([], owned=OWNED, due={A: 0, B: 0})) == []


FETCHES = st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 12)), max_size=40)
DUE = st.fixed_dictionaries({A: st.integers(0, 6), B: st.integers(0, 6)})


@given(FETCHES, DUE)
def test_whatever_is_fetched_the_accepted_offsets_run_on_from_the_due_ones_without_gap_or_repetition(
    fetched: list[tuple[Partition, int]], due: dict[Partition, int]
) -> None:
    found = accept([record(*at) for at in fetched], owned=OWNED, due=due)
    if isinstance(found, Accepted):
        for partition in (A, B):
            offsets = [r.offset for r in found.records if r.partition == partition]
            assert offsets == list(range(due[partition], due[partition] + len(offsets)))
        assert all(r.partition in OWNED for r in found.records)


@given(FETCHES, DUE)
def test_gap_is_told_only_where_a_record_is_really_missing(
    fetched: list[tuple[Partition, int]], due: dict[Partition, int]
) -> None:
    found = accept([record(*at) for at in fetched], owned=OWNED, due=due)
    if isinstance(found, Gap):
        before = fetched[: fetched.index((found.partition, found.found))]
        assert found.partition in OWNED
        assert due[found.partition] <= found.due < found.found
        assert (found.partition, found.due) not in before


TURNS = st.lists(st.tuples(st.integers(1, 8), st.booleans()), max_size=20)


@given(st.integers(0, 25), TURNS)
def test_partition_read_in_any_fetches_with_rewinds_between_is_accepted_once_and_whole(
    length: int, turns: list[tuple[int, bool]]
) -> None:
    """Model of the loop: a commit moves the due offset, a failed batch goes back to the committed one."""
    due = {A: 0}
    position = 0
    processed: list[int] = []
    for size, committed in [*turns, (0, False), (length, True)]:
        batch = [record(A, offset) for offset in range(position, min(position + size, length))]
        position += len(batch)
        found = accept(batch, owned=frozenset({A}), due=due)
        assert isinstance(found, Accepted)
        if committed and found.records:
            processed += [r.offset for r in found.records]
            due[A] = next_offsets(found.records)[A].offset
        elif not committed:
            position = due[A]
    assert processed == list(range(length))


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
