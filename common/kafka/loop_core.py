"""Accept a batch and say what it commits. Pure: what the transactional loop decides without Kafka.

Guards against rewinds that got lost (a gap), records of partitions that moved away, plans that would lose or repeat
records, and metadata from before a join.
"""

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from common.errors import FatalError
from common.kafka.records import CommitPoint, InputRecord, Partition

UNSURE_ENDS_MAX = 20
"""Transactions in a row that did not end cleanly although a producer could be built: then the cause is ours."""
FENCES_MAX = 3
FENCES_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Gap:
    """A record came where an earlier one was due: a rewind got lost, or offsets are missing on the topic."""

    partition: Partition
    due: int
    found: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """Records to process, in order of arrival. `due`: the next offset per owned partition, once they are processed.

    `doubtful`: partitions to be read once more from where they were due.
    """

    records: Sequence[InputRecord]
    due: Mapping[Partition, int]
    doubtful: Mapping[Partition, Gap] = field(default_factory=dict)


_NOWHERE: Mapping[Partition, int] = MappingProxyType({})
_NONE: Mapping[Partition, Gap] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is known of missing offsets: one gap that was `met` per partition, and the `holes` that came of such.

    A gap that is met again, after a read from where its record was due, is a hole: (partition, due offset), known to be
    empty. Several holes may lie in one fetch, and fetches of several partitions come in any order, so what is known of
    one is never dropped for another.
    """

    met: Mapping[Partition, Gap] = field(default_factory=dict)
    holes: frozenset[tuple[Partition, int]] = frozenset()

    def meet(self, gap: Gap) -> "Gaps":
        """Return this with a gap of a dense topic; `is_hole` says what it turned out to be."""
        if self.met.get(gap.partition) == gap:
            return Gaps(self.met, self.holes | {(gap.partition, gap.due)})
        return Gaps({**self.met, gap.partition: gap}, self.holes)

    def is_hole(self, gap: Gap) -> bool:
        """Return True if the offset that was due is known to be empty."""
        return (gap.partition, gap.due) in self.holes

    def doubt(self, doubtful: Mapping[Partition, Gap]) -> "Gaps":
        """Return this with gaps of sparse topics, which are read again once and then no matter."""
        return Gaps({**self.met, **doubtful}, self.holes)

    def accepted(self, due: Mapping[Partition, int]) -> "Gaps":
        """Forget the gaps of which the missing record came after all, or that were passed; `due` as in `Accepted`.

        Now, not once the batch is committed: if it fails, and its rewind is lost, the same gap is a first sight again.
        """
        if not self.met:
            return self
        return Gaps({at: gap for at, gap in self.met.items() if gap.due >= due.get(at, 0)}, self.holes)

    def advanced(self, due: Mapping[Partition, int]) -> "Gaps":
        """Forget the holes below what is processed."""
        if not self.holes:
            return self
        return Gaps(self.met, frozenset(hole for hole in self.holes if hole[1] >= due.get(hole[0], 0)))


def accept(
    records: Sequence[InputRecord],
    *,
    owned: frozenset[Partition],
    due: Mapping[Partition, int],
    holes: frozenset[tuple[Partition, int]] = frozenset(),
    sought: Mapping[Partition, int] = _NOWHERE,
    known: Mapping[Partition, Gap] = _NONE,
) -> Accepted | Gap:
    """Return what of a fetch may be processed.

    `due` names the next offset per owned partition. What lies below it was processed; what belongs to a partition
    that is not owned came with a revocation: both are dropped. `holes` are (partition, due offset) that were read
    again from there and are known to be empty, such as commit markers of a foreign transactional writer.

    `sought` names the partitions whose topic has transactional writers, and where each was last sought to. Markers lie
    between all their records, so only the first record behind a seek tells anything: one that is not the due one makes
    its partition doubtful, unless it is the `known` one, which was met when the partition was last read from there.
    """
    accepted = []
    expected = dict(due)
    doubtful: dict[Partition, Gap] = {}
    for record in records:
        partition = record.partition
        if partition not in owned or record.offset < expected[partition] or partition in doubtful:
            continue
        if record.offset > expected[partition] and (partition, expected[partition]) not in holes:
            gap = Gap(partition, expected[partition], record.offset)
            if partition not in sought:
                return gap
            if sought[partition] == expected[partition] and gap != known.get(partition):
                doubtful[partition] = gap
                continue
        expected[partition] = record.offset + 1
        accepted.append(record)
    return Accepted(accepted, expected, doubtful)


class UnsureEnds:
    """How many transactions in a row did not end cleanly, and when fences were met."""

    def __init__(self) -> None:
        self._in_a_row = self._fenced = 0
        self._fences: deque[float] = deque(maxlen=FENCES_MAX + 1)

    def clean(self) -> None:
        """Take note of a transaction that ended cleanly."""
        self._in_a_row = self._fenced = 0

    def count(self, *, fenced: bool) -> None:
        """Count one that did not. Raises FatalError if there are too many, which says what is known and no more."""
        self._in_a_row += 1
        self._fenced += fenced
        if self._in_a_row > UNSURE_ENDS_MAX:
            raise FatalError(
                f"{self._in_a_row} transactions in a row did not end cleanly, {self._fenced} of them because a newer"
                " producer has their transactional id",
                cure="read transaction.unsure in the log; a program that is no member of the group may use the id",
            )

    def fences_too_many(self, now: float) -> int:
        """Count a fence; return how many there were within a minute if they are more than chance brings, else 0."""
        self._fences.append(now)
        many = len(self._fences) > FENCES_MAX and now - self._fences[0] < FENCES_WITHIN_SECONDS
        return len(self._fences) if many else 0


def complaint(
    offsets: Mapping[Partition, CommitPoint], *, due: Mapping[Partition, int], committed: Mapping[Partition, int]
) -> str:
    """Return why a plan's offsets must not be committed, or an empty text.

    `due`: the next offset per owned partition, the batch in hand included. `committed`: where the group stands.
    """
    for partition, point in offsets.items():
        name = f"{partition.topic}[{partition.number}]"
        if partition not in due:
            return f"{name}, which belongs to another member"
        if point.offset > due[partition]:
            return f"{name} at {point.offset}: the records from {due[partition]} on would be lost"
        if point.offset < committed.get(partition, 0):
            return f"{name} at {point.offset}: the records up to {committed[partition]} would come again"
    return ""


def next_offsets(batch: Sequence[InputRecord]) -> dict[Partition, CommitPoint]:
    """Return the offset to commit per partition: the next to read, so the highest + 1.

    From the batch, never from the client's position, which runs ahead of it. An empty batch is a bug.
    """
    assert batch, "a batch without records commits nothing"  # noqa: S101 - a broken programmer
    return {record.partition: CommitPoint(record.offset + 1) for record in batch}


def generation(group_metadata: bytes) -> int:
    """Return the generation inside librdkafka's serialised group metadata; -1 before the first join.

    Source: `rd_kafka_consumer_group_metadata_write`: the magic `CGMDv2:`, then the generation as a native int32.
    Metadata from before a join fences nobody: a transaction that carries it would commit for any zombie.
    """
    return int.from_bytes(group_metadata[7:11], sys.byteorder, signed=True)
