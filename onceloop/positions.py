"""Where reading stands: the offset due next per partition, and what is known of offsets without a record. Pure.

Guards against rewinds that got lost (a gap), records of partitions that moved away, and plans that would lose or repeat
records. Every turn of the loop is a function from one value to the next; what Kafka has to do with it stands in the
outcomes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from onceloop.records import CommitPoint, InputRecord, Partition


@dataclass(frozen=True, slots=True)
class Gap:
    """A record came where an earlier one was due: a rewind got lost, or offsets are missing on the topic."""

    partition: Partition
    due: int
    found: int


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
        """Forget the gaps of which the missing record came after all, or that were passed; `due`: the next offsets.

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


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to process, in order of arrival.

    `before`: where reading stands until they are processed; `after`: once they are. `reread`: partitions that are to be
    sought first, and where to; none of their records are in the batch.
    """

    records: Sequence[InputRecord]
    before: "Positions"
    after: "Positions"
    reread: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rewind:
    """A record is missing, so everything is to be read again from what is committed; `positions`: until then."""

    gap: Gap
    positions: "Positions"

    @property
    def is_hole(self) -> bool:
        """Return True if the gap was met twice: it is known to be empty, and passed the next time."""
        return self.positions.gaps.is_hole(self.gap)


@dataclass(frozen=True, slots=True)
class Positions:
    """Where reading stands.

    `due`: the next offset per owned partition. `committed`: where the group stands. `sought`: of the partitions whose
    topic has transactional writers, where each was last sought to.
    """

    due: Mapping[Partition, int] = field(default_factory=dict)
    committed: Mapping[Partition, int] = field(default_factory=dict)
    sought: Mapping[Partition, int] = field(default_factory=dict)
    gaps: Gaps = field(default_factory=Gaps)

    def rewound(self, stable: Mapping[Partition, CommitPoint], *, sparse_topics: frozenset[str]) -> "Positions":
        """Return this once every owned partition is sought to its committed offset; what is known of gaps stays."""
        due = {partition: point.offset for partition, point in stable.items()}
        return Positions(due, due, {at: due[at] for at in due if at.topic in sparse_topics}, self.gaps)

    def published(self, offsets: Mapping[Partition, CommitPoint]) -> "Positions":
        """Return this once these offsets are committed."""
        return replace(self, committed={**self.committed, **{at: point.offset for at, point in offsets.items()}})

    def accept(self, records: Sequence[InputRecord], *, owned: frozenset[Partition]) -> Batch | Rewind:
        """Return what of a fetch may be processed.

        What lies below the due offset was processed; what belongs to a partition that is not owned came with a
        revocation: both are dropped. A gap is a hole once it is met again after a rewind: offsets that are known to be
        empty, such as commit markers of a foreign transactional writer.

        Where a topic has transactional writers, markers lie between all records, so only the first record behind a seek
        proves anything: one that is not the due one has its partition read once more, unless that gap was met there
        when it was last read.
        """
        accepted = []
        expected = dict(self.due)
        doubtful: dict[Partition, Gap] = {}
        for record in records:
            partition = record.partition
            if partition not in owned or record.offset < expected[partition] or partition in doubtful:
                continue
            if record.offset > expected[partition] and (partition, expected[partition]) not in self.gaps.holes:
                gap = Gap(partition, expected[partition], record.offset)
                if partition not in self.sought:
                    return Rewind(gap, replace(self, gaps=self.gaps.meet(gap)))
                if self.sought[partition] == expected[partition] and gap != self.gaps.met.get(partition):
                    doubtful[partition] = gap
                    continue
            expected[partition] = record.offset + 1
            accepted.append(record)
        gaps = self.gaps.accepted(expected).doubt(doubtful)
        return Batch(
            accepted,
            before=replace(self, gaps=gaps),
            after=replace(self, due=expected, gaps=gaps.advanced(expected)),
            reread={at: gap.due for at, gap in doubtful.items()},
        )

    def complaint(self, offsets: Mapping[Partition, CommitPoint]) -> str:
        """Return why these offsets must not be committed here, behind the batch in hand; an empty text: they may."""
        for partition, point in offsets.items():
            name = f"{partition.topic}[{partition.number}]"
            if partition not in self.due:
                return f"{name}, which belongs to another member"
            if point.offset > self.due[partition]:
                return f"{name} at {point.offset}: the records from {self.due[partition]} on would be lost"
            if point.offset < self.committed.get(partition, 0):
                return f"{name} at {point.offset}: the records up to {self.committed[partition]} would come again"
        return ""
