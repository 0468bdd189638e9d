"""The cluster: partitions, transaction coordinator and group, wired together behind one wire."""

from collections.abc import Sequence

from chaos.model.broker import Broker, Entry, Fate, ProducerEpoch
from chaos.model.group import Group, Membership
from chaos.model.network import Network
from chaos.model.scheduler import Scheduler
from chaos.model.transactions import GROUP, TransactionCoordinator
from onceloop.records import Partition


class Cluster:
    """What a client can reach. `inputs` are read by the group, from offset 0; `outputs` are topics of one partition."""

    def __init__(self, scheduler: Scheduler, inputs: Sequence[Partition], outputs: Sequence[str]) -> None:
        self.scheduler = scheduler
        self.inputs = tuple(inputs)
        self.coordinator = TransactionCoordinator(self._mark)
        self.broker = Broker([*inputs, *(Partition(topic, 0) for topic in outputs)], self.coordinator.verify)
        self.group = Group(inputs, dict.fromkeys(inputs, 0))
        self.network = Network(scheduler, self.settle)

    def settle(self) -> bool:
        """Write one marker that is due; return False if none is."""
        written = self.coordinator.write_marker(self.scheduler.random.choice)
        if written:
            self.scheduler.note("broker", written)
        return bool(written)

    def commit_offsets(self, writer: ProducerEpoch, sender: Membership, offsets: dict[Partition, int]) -> None:
        """Take TxnOffsetCommit: epoch and transaction are checked as for any write. Raises Refused."""
        self.coordinator.verify(writer, GROUP)
        self.group.commit_in_transaction(writer.producer, sender, offsets)

    def entries(self, partition: Partition) -> list[Entry | None]:
        """Return what stands on a partition."""
        return self.broker.logs[partition].entries

    def visible(self, topic: str) -> list[tuple[int, Entry]]:
        """Return what a read_committed reader sees of an output topic."""
        return self.broker.logs[Partition(topic, 0)].visible()

    def worked_off(self) -> bool:
        """Return True if the group has left every record behind and no request or marker is on its way.

        An offset without a record at the end stays ahead of the group for ever, so lag 0 is never asked for.
        """
        behind = all(
            entry is None or offset < self.group.committed[partition]
            for partition in self.inputs
            for offset, entry in enumerate(self.entries(partition))
        )
        return behind and not self.network.late and self.coordinator.at_rest

    def _mark(self, writer: ProducerEpoch, partition: Partition, fate: Fate) -> None:
        if partition == GROUP:
            self.group.mark(writer.producer, fate)
        else:
            self.broker.logs[partition].mark(writer, fate)
