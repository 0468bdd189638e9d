"""What of a fetch may be processed, and what may be committed: nothing lost, nothing twice."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceloop.positions import Batch, Gap, Gaps, Positions, Rewind
from onceloop.records import CommitPoint, InputRecord, Partition, next_offsets

A, B, C = (Partition("orders.created", number) for number in range(3))
OWNED = frozenset({A, B})


def record(partition: Partition, offset: int) -> InputRecord:
    return InputRecord(partition, offset, key=None, value=b"%d" % offset)


def accept(
    batch: Sequence[InputRecord],
    due: Mapping[Partition, int],
    *,
    sought: Mapping[Partition, int] | None = None,
    gaps: Gaps | None = None,
) -> Batch | Rewind:
    """Return what becomes of a fetch for a member that owns A and B."""
    return Positions(due, due, sought or {}, gaps or Gaps()).accept(batch, owned=OWNED)


def accepted(found: Batch | Rewind) -> list[tuple[Partition, int]]:
    assert isinstance(found, Batch)
    return [(r.partition, r.offset) for r in found.records]


def gap(found: Batch | Rewind) -> Gap:
    assert isinstance(found, Rewind)
    return found.gap


def test_records_that_are_due_are_accepted_in_order_of_arrival() -> None:
    batch = [record(A, 4), record(B, 9), record(A, 5)]
    assert accepted(accept(batch, {A: 4, B: 9})) == [(A, 4), (B, 9), (A, 5)]


def test_records_of_a_partition_that_moved_away_are_dropped() -> None:
    batch = [record(A, 4), record(C, 0), record(A, 5)]
    assert accepted(accept(batch, {A: 4, B: 0})) == [(A, 4), (A, 5)]


def test_records_below_the_due_offset_were_processed_and_are_dropped() -> None:
    batch = [record(A, 2), record(A, 3), record(A, 4)]
    assert accepted(accept(batch, {A: 4, B: 0})) == [(A, 4)]


def test_record_that_comes_twice_in_one_fetch_is_accepted_once() -> None:
    assert accepted(accept([record(A, 4), record(A, 4)], {A: 4, B: 0})) == [(A, 4)]


def test_missing_record_is_a_gap_and_nothing_behind_it_is_accepted() -> None:
    batch = [record(A, 4), record(A, 6)]
    assert gap(accept(batch, {A: 4, B: 0})) == Gap(A, due=5, found=6)


def test_gap_of_a_partition_that_moved_away_is_none() -> None:
    assert accepted(accept([record(C, 77)], {A: 4, B: 0})) == []


def test_known_hole_is_passed__and_only_that_one() -> None:
    holes = frozenset({(A, 5)})
    assert accepted(accept([record(A, 4), record(A, 6)], {A: 4, B: 0}, gaps=Gaps(holes=holes))) == [
        (A, 4),
        (A, 6),
    ]
    assert gap(accept([record(A, 4), record(A, 8)], {A: 3, B: 0}, gaps=Gaps(holes=holes))) == Gap(A, due=3, found=4)
    assert gap(accept([record(B, 6)], {A: 4, B: 5}, gaps=Gaps(holes=holes))) == Gap(B, due=5, found=6)


# --- topics whose writers commit transactions -------------------------------------------------------------------------

SOUGHT = {A: 4}
"""A belongs to such a topic and was last sought to 4; B belongs to none."""


def test_markers_between_records_are_passed_without_a_doubt() -> None:
    found = accept([record(A, 4), record(A, 6), record(A, 9)], {A: 4, B: 0}, sought=SOUGHT)
    assert accepted(found) == [(A, 4), (A, 6), (A, 9)]
    assert isinstance(found, Batch)
    assert not found.reread
    assert accepted(accept([record(A, 9)], {A: 7, B: 0}, sought=SOUGHT)) == [(A, 9)]


def test_first_record_behind_a_seek_that_is_not_the_due_one_makes_its_partition_doubtful__and_no_other() -> None:
    batch = [record(A, 6), record(B, 0), record(A, 7)]
    found = accept(batch, {A: 4, B: 0}, sought=SOUGHT)
    assert accepted(found) == [(B, 0)]
    assert isinstance(found, Batch)
    assert (found.reread, found.before.gaps.met) == ({A: 4}, {A: Gap(A, due=4, found=6)})


def test_doubt_that_is_met_again_is_a_marker__and_another_one_a_new_doubt() -> None:
    known = {A: Gap(A, due=4, found=6)}
    found = accept([record(A, 6), record(A, 8)], {A: 4, B: 0}, sought=SOUGHT, gaps=Gaps(known))
    assert accepted(found) == [(A, 6), (A, 8)]
    found = accept([record(A, 7)], {A: 4, B: 0}, sought=SOUGHT, gaps=Gaps(known))
    assert isinstance(found, Batch)
    assert (found.reread, found.before.gaps.met) == ({A: 4}, {A: Gap(A, due=4, found=7)})


def test_missing_record_of_a_dense_topic_is_a_gap__beside_a_sparse_one_too() -> None:
    assert gap(accept([record(A, 6), record(B, 2)], {A: 4, B: 1}, sought=SOUGHT)) == Gap(B, 1, 2)


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
    positions, read = Positions({A: sought}, {A: sought}, {A: sought}), list[int]()
    position = (sought + 40) // 2 if lost else sought
    for _ in range(2 * len(log) + 3):
        fetched = [record(A, offset) for offset in log if offset >= position][:size]
        position = fetched[-1].offset + 1 if fetched else position
        found = positions.accept(fetched, owned=frozenset({A}))
        assert isinstance(found, Batch)
        position = found.reread.get(A, position)
        read += [each.offset for each in found.records]
        positions = found.after
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
    met = Gap(A, due=5, found=7)
    found = accept([record(A, 5)], {A: 5, B: 0}, gaps=Gaps().meet(met))
    assert isinstance(found, Batch)
    assert not found.before.gaps.meet(met).is_hole(met)


def test_hole_is_known_until_the_group_is_past_it() -> None:
    met = Gap(A, due=5, found=7)
    gaps = Gaps().meet(met).meet(met)
    assert gaps.advanced({A: 5, B: 9}).is_hole(met)
    assert not gaps.advanced({A: 8, B: 0}).is_hole(met)


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
    positions, read, rewinds = Positions(dict(committed), dict(committed)), list[tuple[Partition, int]](), 0
    while any(at <= end for at in positions.due.values()):
        fetch = []
        for partition in data.draw(st.permutations(sorted(logs))):
            wanted = [offset for offset in (*sorted(logs[partition]), end) if offset >= position[partition]]
            fetched = wanted[: data.draw(st.integers(0, 3))] or wanted[:1]
            fetch += [record(partition, offset) for offset in fetched]
        position |= {each.partition: each.offset + 1 for each in fetch}
        found = positions.accept(fetch, owned=owned)
        if isinstance(found, Rewind):
            points = {at: CommitPoint(offset) for at, offset in positions.committed.items()}
            positions, rewinds = found.positions.rewound(points, sparse_topics=frozenset()), rewinds + 1
            position = dict(positions.due)
            assert rewinds <= 2 * empty
            continue
        read += [(each.partition, each.offset) for each in found.records]
        positions = found.after.published({at: CommitPoint(offset) for at, offset in found.after.due.items()})
    assert sorted(read) == sorted((partition, offset) for partition in logs for offset in (*logs[partition], end))
    assert positions.gaps == Gaps()


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
    found = Positions(due={A: 6, B: 3}, committed={A: 4, B: 3}).complaint(points)
    assert (refusal in found) if refusal else (found == "")


@given(FETCHES_OF_OWNED, st.integers(0, 5))
def test_offsets_of_the_accepted_records_are_never_refused(fetched: list[tuple[Partition, int]], first: int) -> None:
    committed = {A: first, B: first}
    found = accept([record(*at) for at in fetched], committed)
    if isinstance(found, Batch) and found.records:
        assert found.after.complaint(next_offsets(found.records)) == ""


def test_nothing_fetched_is_nothing_accepted() -> None:
    assert accepted(accept([], {A: 0, B: 0})) == []


FETCHES = st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 12)), max_size=40)
DUE = st.fixed_dictionaries({A: st.integers(0, 6), B: st.integers(0, 6)})


@given(FETCHES, DUE)
def test_whatever_is_fetched_the_accepted_offsets_run_on_from_the_due_ones_without_gap_or_repetition(
    fetched: list[tuple[Partition, int]], due: dict[Partition, int]
) -> None:
    found = accept([record(*at) for at in fetched], due)
    if isinstance(found, Batch):
        for partition in (A, B):
            offsets = [r.offset for r in found.records if r.partition == partition]
            assert offsets == list(range(due[partition], due[partition] + len(offsets)))
        assert all(r.partition in OWNED for r in found.records)


@given(FETCHES, DUE)
def test_gap_is_reported_only_where_a_record_is_really_missing(
    fetched: list[tuple[Partition, int]], due: dict[Partition, int]
) -> None:
    found = accept([record(*at) for at in fetched], due)
    if isinstance(found, Rewind):
        gap = found.gap
        before = fetched[: fetched.index((gap.partition, gap.found))]
        assert gap.partition in OWNED
        assert due[gap.partition] <= gap.due < gap.found
        assert (gap.partition, gap.due) not in before


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
        found = Positions(due, due).accept(batch, owned=frozenset({A}))
        assert isinstance(found, Batch)
        if committed and found.records:
            processed += [r.offset for r in found.records]
            due[A] = next_offsets(found.records)[A].offset
        elif not committed:
            position = due[A]
    assert processed == list(range(length))
