"""The transaction coordinator: one state machine per transactional id, speaking the protocol that librdkafka speaks.

Semantics and their sources:
- InitProducerId bumps the epoch; an open transaction of an older epoch is aborted first, and meanwhile the answer is
  CONCURRENT_TRANSACTIONS (KIP-98, "InitPidRequest").
- EndTxn decides, then markers go to every partition one by one; until all are written, requests of the next
  transaction get CONCURRENT_TRANSACTIONS (KIP-98, "EndTxnRequest").
- There is no epoch per transaction (KIP-890, "Motivation"; librdkafka #5423): a late EndTxn or AddPartitionsToTxn of
  the same epoch acts on whatever transaction it meets.
- A transaction that is open for too long is aborted with a bumped epoch, which fences its producer (KIP-98).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from confluent_kafka import KafkaError

from chaos.model.broker import Fate, ProducerEpoch, Refused
from onceloop.records import Partition

GROUP = Partition("__consumer_offsets", 0)
"""The partition on which the group's offsets stand: it takes part in transactions like any other."""


class _State(Enum):
    EMPTY = auto()
    ONGOING = auto()
    ENDING = auto()
    """Decided; markers are on their way."""
    ENDED = auto()


@dataclass(slots=True)
class _Transaction:
    producer: int
    epoch: int = -1
    state: _State = _State.EMPTY
    fate: Fate = Fate.OPEN
    targets: list[Partition] = field(default_factory=list)


class TransactionCoordinator:
    """All transactional ids. `mark` writes one marker."""

    def __init__(self, mark: Callable[[ProducerEpoch, Partition, Fate], None]) -> None:
        self._mark = mark
        self._by_id: dict[str, _Transaction] = {}
        self.timed_out = 0

    def initialise(self, transactional_id: str) -> ProducerEpoch:
        """Take InitProducerId: a new epoch for any caller. Raises Refused."""
        if transactional_id not in self._by_id:
            self._by_id[transactional_id] = _Transaction(producer=len(self._by_id) + 1)
        found = self._by_id[transactional_id]
        if found.state is _State.ONGOING:
            self._fence(found)
        if found.state is _State.ENDING:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        found.epoch += 1
        found.state = _State.EMPTY
        return ProducerEpoch(found.producer, found.epoch)

    def add(self, writer: ProducerEpoch, partition: Partition) -> None:
        """Take AddPartitionsToTxn or AddOffsetsToTxn. Raises Refused."""
        found = self._owned(writer)
        if found.state is _State.ENDING:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)
        if found.state is not _State.ONGOING:
            found.state = _State.ONGOING
            found.targets = []
        if partition not in found.targets:
            found.targets.append(partition)

    def end(self, writer: ProducerEpoch, fate: Fate) -> None:
        """Take EndTxn. Raises Refused."""
        found = self._owned(writer)
        if found.state is _State.ONGOING:
            found.state, found.fate = _State.ENDING, fate
        elif found.state is _State.EMPTY or found.fate is not fate:
            raise Refused(KafkaError.INVALID_TXN_STATE)
        elif found.state is _State.ENDING:
            raise Refused(KafkaError.CONCURRENT_TRANSACTIONS)

    def verify(self, writer: ProducerEpoch, partition: Partition) -> None:
        """Raise Refused unless this epoch's transaction is under way with this partition in it."""
        found = self._owned(writer)
        if found.state is not _State.ONGOING or partition not in found.targets:
            raise Refused(KafkaError.INVALID_TXN_STATE)

    def write_marker(self, choose: Callable[[list[Partition]], Partition]) -> str:
        """Write one marker that is due; return which, or an empty text if none is."""
        for found in self._by_id.values():
            if found.state is _State.ENDING:
                partition = choose(found.targets)
                self._mark(ProducerEpoch(found.producer, found.epoch), partition, found.fate)
                found.targets.remove(partition)
                if not found.targets:
                    found.state = _State.ENDED
                return f"{found.fate.name.lower()} marker on {partition.topic}[{partition.number}]"
        return ""

    def time_out(self) -> str:
        """Abort a transaction that is under way, as after its time-out; return whose, or an empty text."""
        for transactional_id, found in self._by_id.items():
            if found.state is _State.ONGOING:
                self._fence(found)
                self.timed_out += 1
                return f"{transactional_id} timed out"
        return ""

    @property
    def at_rest(self) -> bool:
        """Return True if no transaction is open or being ended."""
        return all(found.state in {_State.EMPTY, _State.ENDED} for found in self._by_id.values())

    def _fence(self, found: _Transaction) -> None:
        found.epoch += 1
        found.state, found.fate = _State.ENDING, Fate.ABORTED

    def _owned(self, writer: ProducerEpoch) -> _Transaction:
        found = next(one for one in self._by_id.values() if one.producer == writer.producer)
        if writer.epoch != found.epoch:
            raise Refused(KafkaError.INVALID_PRODUCER_EPOCH)
        return found
