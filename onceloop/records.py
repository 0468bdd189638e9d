"""What crosses the border of `onceloop.kafka`: records, plans and the protocols that plug in. No client type leaks.

What there is one of per record is a named tuple: it takes half the time to make.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from onceloop.errors import ContractError, Poison

Headers = tuple[tuple[str, bytes | None], ...]
Row = TypeVar("Row", bound=tuple[Any, ...])


def rows(kind: type[Row], *columns: Iterable[Any]) -> list[Row]:
    """Return named tuples of this kind from one column per field, in half the time that calling it takes.

    Raises ValueError unless all columns are as long as the first. Their number and types are the caller's to know.
    """
    return list(map(partial(tuple.__new__, kind), zip(*columns, strict=True)))


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


class CommitPoint(NamedTuple):
    """A committed offset (the next to read) and the text stored beside it."""

    offset: int
    metadata: str = ""


class InputRecord(NamedTuple):
    """One record as it was read. `offset` is its own; key and value are the bytes on the topic.

    `headers` reads them when it is called: that costs more than the rest, and only dead letters need them.
    """

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Callable[[], Headers] = tuple


class OutputRecord(NamedTuple):
    """One record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    is_dead_letter: bool = False


def next_offsets(batch: Sequence[InputRecord]) -> dict[Partition, CommitPoint]:
    """Return the offset to commit per partition: the next to read, so the highest + 1.

    From the batch, never from the client's position, which runs ahead of it. An empty batch is a bug.
    """
    assert batch, "a batch without records commits nothing"  # noqa: S101 - a broken programmer
    last = {record.partition: record.offset for record in batch}
    return {partition: CommitPoint(offset + 1) for partition, offset in last.items()}


@dataclass(frozen=True, slots=True)
class Publish:
    """Write these records and commit these offsets, in one transaction: all visible at once, or nothing.

    `offsets`: per partition the offset to commit (last + 1), with metadata. They cover the batch, and what was kept
    before it. Raises ContractError without any: the records would be written again with every batch.
    """

    records: Sequence[OutputRecord]
    offsets: Mapping[Partition, CommitPoint]

    def __post_init__(self) -> None:
        if not self.offsets:
            raise ContractError(
                f"{len(self.records)} records are to be published without offsets",
                cure="mend the step: publish with the offsets that cover the records, or return Keep()",
            )


@dataclass(frozen=True, slots=True)
class Keep:
    """Commit nothing yet: the step keeps the batch in memory, and the offsets of a later Publish cover it."""


Plan = Publish | Keep
"""What one batch leads to."""


class Quarantine(Exception):  # noqa: N818 - a state of partitions, not an error of this process
    """Processes die again and again at the committed offset of these partitions: leave them alone, call a person."""

    def __init__(self, partitions: frozenset[Partition], reason: str) -> None:
        super().__init__(reason)
        self.partitions = partitions


class Step(Protocol):
    """What a service plugs into `onceloop.transactional.run`. The loop owns Kafka, the step owns the decision."""

    @property
    def limit(self) -> int:
        """Return how many records the next batch may hold, at least 1."""

    def decide(self, batch: Sequence[InputRecord]) -> Plan:
        """Return what the batch leads to, durable in the database before this returns; same records, same bytes.

        An empty batch comes in an idle turn, if something is `pending`. Raises Busy (nothing is wrong with the records:
        pause, then the same again), Poison (take less) or Quarantine (take nothing from these partitions).
        """

    def pending(self) -> bool:
        """Return True if time alone has made something ready to be published; asked when no record came."""

    def settled(self, published: Publish) -> None:
        """Take note that this is committed in Kafka."""

    def narrow(self) -> None:
        """Halve the limit, because the last batch was poison."""

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Forget everything in memory: reading goes on at these committed offsets."""

    def ready(self) -> bool:
        """Return True if what `decide` needs answers again."""


class Handler(Protocol):
    """What a service plugs into `onceloop.plain.run`."""

    def handle(self, batch: Sequence[InputRecord]) -> None:
        """Do the work of these records; it is durable when this returns.

        Raises Busy to have them again later, Poison if the database rejects something among them for good.
        """

    def reject(self, record: InputRecord, poison: Poison) -> None:
        """Put one record aside that was poison twice and alone, or raised an unforeseen exception again and again.

        That is durable when this returns. Raises Busy.
        """
