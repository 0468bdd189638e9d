"""The group coordinator: static members of a classic group, generations, and offsets that belong to transactions.

Semantics and their sources:
- A member that joins or leaves starts a rebalance: all must join again, then the generation rises and the partitions
  are dealt again.
- A process that starts in a known slot (`group.instance.id`) takes the member's place without a rebalance; the former
  one is fenced from then on (KIP-345).
- TxnOffsetCommit is refused for a foreign member or another generation (KIP-447). One that names no member and no
  generation is taken from anybody: that is what metadata from before the join looks like (measured on Kafka 4.3.1).
- Its offsets are pending until the transaction's marker arrives, and `require_stable` readers wait for them (KIP-447).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from confluent_kafka import KafkaError

from chaos.model.broker import Fate, Refused
from onceloop.records import Partition


@dataclass(frozen=True, slots=True)
class Membership:
    """What a request says about who sends it; generation -1 and no member id before the join."""

    generation: int
    member: str
    instance: str


@dataclass(slots=True)
class _Member:
    member: str
    joined: bool = False
    share: tuple[Partition, ...] = ()


@dataclass(slots=True)
class Group:
    """One consumer group over the partitions of one topic."""

    partitions: Sequence[Partition]
    committed: dict[Partition, int]
    generation: int = 0
    rebalancing: bool = True
    takeovers: int = 0
    """Partitions that went to another slot than had them before."""
    _members: dict[str, _Member] = field(default_factory=dict)
    _pending: dict[int, dict[Partition, int]] = field(default_factory=dict)
    _owners: dict[Partition, str] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)

    def join(self, instance: str, member: str) -> str:
        """Take JoinGroup; return the member id. A new process gives none. Raises Refused."""
        found = self._members.get(instance)
        if found is None:
            found = self._members[instance] = _Member(f"{instance}-{next(self._numbers)}")
            self._rebalance()
        elif not member:
            found.member = f"{instance}-{next(self._numbers)}"
        elif member != found.member:
            raise Refused(KafkaError.FENCED_INSTANCE_ID)
        if self.rebalancing:
            found.joined = True
            self._complete()
        return found.member

    def heartbeat(self, instance: str, member: str) -> None:
        """Raise Refused if this is no member, or no longer the member in its slot."""
        found = self._members.get(instance)
        if found is None:
            raise Refused(KafkaError.UNKNOWN_MEMBER_ID)
        if found.member != member:
            raise Refused(KafkaError.FENCED_INSTANCE_ID)

    def share(self, instance: str) -> tuple[Partition, ...] | None:
        """Return what this member was dealt in the present generation; None while the group rebalances."""
        return None if self.rebalancing else self._members[instance].share

    def has_joined(self, instance: str) -> bool:
        """Return True if this member need not join again in the rebalance that is going on."""
        return self._members[instance].joined

    def expel(self, instance: str) -> bool:
        """End a member's session; return False if there is none."""
        if self._members.pop(instance, None) is None:
            return False
        self._rebalance()
        self._complete()
        return True

    def commit_in_transaction(self, producer: int, sender: Membership, offsets: Mapping[Partition, int]) -> None:
        """Take TxnOffsetCommit. Raises Refused."""
        if sender.generation >= 0 or sender.member:
            self._authorise(sender)
        self._pending.setdefault(producer, {}).update(offsets)

    def commit(self, sender: Membership, offsets: Mapping[Partition, int]) -> None:
        """Take OffsetCommit, outside any transaction. Raises Refused."""
        self._authorise(sender)
        self.committed.update(offsets)

    def mark(self, producer: int, fate: Fate) -> None:
        """Take a transaction's marker: its pending offsets count, or never were."""
        offsets = self._pending.pop(producer, {})
        if fate is Fate.COMMITTED:
            self.committed.update(offsets)

    def is_stable(self, partition: Partition) -> bool:
        """Return True if no transaction holds an offset of this partition pending."""
        return not any(partition in offsets for offsets in self._pending.values())

    def _authorise(self, sender: Membership) -> None:
        self.heartbeat(sender.instance, sender.member)
        if sender.generation != self.generation:
            raise Refused(KafkaError.ILLEGAL_GENERATION)

    def _rebalance(self) -> None:
        self.rebalancing = True
        for member in self._members.values():
            member.joined = False

    def _complete(self) -> None:
        """Deal the partitions once every member has joined."""
        if not self._members or not all(member.joined for member in self._members.values()):
            return
        self.generation += 1
        self.rebalancing = False
        instances = sorted(self._members)
        for index, instance in enumerate(instances):
            share = tuple(self.partitions[index :: len(instances)])
            self._members[instance].share = share
            for partition in share:
                self.takeovers += self._owners.get(partition, instance) != instance
                self._owners[partition] = instance
