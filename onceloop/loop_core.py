"""What the loops decide without Kafka, beside positions. Pure.

Guards against transactions that never end cleanly, and metadata from before a join.
"""

import sys
from collections import deque
from collections.abc import Sequence

from onceloop.errors import FatalError
from onceloop.records import CommitPoint, InputRecord, Partition

UNSURE_ENDS_MAX = 20
"""Transactions in a row that did not end cleanly although a producer could be built: then the cause is ours."""
FENCES_MAX = 3
FENCES_WITHIN_SECONDS = 60.0


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
