"""The broker's partitions: a log per partition, transactional records, markers, and what read_committed sees.

Semantics and their sources:
- Records of a transaction stay invisible until its marker; readers stop at the first open one (KIP-98, "Read Committed
  Consumer").
- A batch whose sequence number was seen is acknowledged and not written again; a gap is refused (KIP-98, "Idempotent
  Producer Guarantees").
- An epoch older than the newest that the partition saw is refused, and markers carry epochs too (KIP-98).
- A transactional write is refused unless the coordinator says that this epoch's transaction is under way with this
  partition in it (KIP-890, part 1: `transaction.partition.verification.enable`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from confluent_kafka import KafkaError

from onceloop.records import Headers, OutputRecord, Partition


class Refused(Exception):  # noqa: N818 - the broker's answer, which the client turns into an error
    """The broker's error code for a request."""

    def __init__(self, code: int) -> None:
        super().__init__(KafkaError(code).name())
        self.code = code


class Fate(Enum):
    """What became of a transactional record."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True)
class Entry:
    """One record on a partition; `producer` is the transactional one's id, or 0."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    producer: int = 0
    fate: Fate = Fate.COMMITTED


@dataclass(frozen=True, slots=True)
class ProducerEpoch:
    """Who writes: the producer id of a transactional id, and the epoch that its latest owner was given."""

    producer: int
    epoch: int


@dataclass(slots=True)
class _Seen:
    epoch: int
    sequence: int = -1


@dataclass(slots=True)
class PartitionLog:
    """One partition. None in `entries` is an offset without a record, such as a marker of a foreign transaction."""

    entries: list[Entry | None] = field(default_factory=list)
    seen: dict[int, _Seen] = field(default_factory=dict)
    suppressed: int = 0
    """Repeated batches that were acknowledged and not written."""

    def append(self, writer: ProducerEpoch, sequence: int, records: Sequence[OutputRecord]) -> None:
        """Write a batch of a transaction. Raises Refused."""
        seen = self.seen.setdefault(writer.producer, _Seen(writer.epoch))
        if writer.epoch < seen.epoch:
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        if writer.epoch > seen.epoch:
            seen.epoch, seen.sequence = writer.epoch, -1
        if sequence <= seen.sequence:
            self.suppressed += 1
            return
        if sequence != seen.sequence + 1:
            raise Refused(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        seen.sequence += len(records)
        for record in records:
            self.entries.append(Entry(record.key, record.value, record.headers, writer.producer, Fate.OPEN))

    def mark(self, writer: ProducerEpoch, fate: Fate) -> None:
        """End the transaction on this partition: whatever the producer has open here shares its fate."""
        seen = self.seen.setdefault(writer.producer, _Seen(writer.epoch))
        if writer.epoch > seen.epoch:
            seen.epoch, seen.sequence = writer.epoch, -1
        for entry in self.entries:
            if entry is not None and entry.producer == writer.producer and entry.fate is Fate.OPEN:
                entry.fate = fate

    def visible(self) -> list[tuple[int, Entry]]:
        """Return what read_committed shows, by offset: nothing from the first open record on."""
        shown = []
        for offset, entry in enumerate(self.entries):
            if entry is None:
                continue
            if entry.fate is Fate.OPEN:
                break
            if entry.fate is Fate.COMMITTED:
                shown.append((offset, entry))
        return shown


class Broker:
    """All partitions. `verify` asks the transaction coordinator and raises Refused."""

    def __init__(self, partitions: Sequence[Partition], verify: Callable[[ProducerEpoch, Partition], None]) -> None:
        self.logs = {partition: PartitionLog() for partition in partitions}
        self._verify = verify

    def produce(
        self, writer: ProducerEpoch, partition: Partition, sequence: int, records: Sequence[OutputRecord]
    ) -> None:
        """Take a Produce request. Raises Refused."""
        self._verify(writer, partition)
        self.logs[partition].append(writer, sequence, records)
