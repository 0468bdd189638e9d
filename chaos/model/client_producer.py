"""librdkafka's transactional producer, as far as the product uses it: states, hidden retries, log lines, errors.

Records are sent some time between `produce` and the end of the transaction. What was sent and not acknowledged is
purged by an abort, and the sequence numbers of purged records are given out again: measured on Kafka 4.3.1, the reason
why the product never aborts.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicPartition

from chaos.model.broker import Fate, ProducerEpoch, Refused
from chaos.model.client_errors import refusal, timed_out, wrong_state
from chaos.model.cluster import Cluster
from chaos.model.group import Membership
from chaos.model.network import TimedOut
from chaos.model.transactions import GROUP
from onceloop.records import Headers, OutputRecord, Partition

EARLY_SENDING = 0.3
"""How likely librdkafka's own thread sends what is queued before anybody flushes."""

T = TypeVar("T")


class ModelProducer:
    """Stands for `confluent_kafka.Producer`."""

    def __init__(self, cluster: Cluster, options: Mapping[str, Any], *, logger: Any) -> None:
        self._cluster = cluster
        self._id = str(options["transactional.id"])
        self._logger = logger
        self._lines: list[str] = []
        self._writer: ProducerEpoch | None = None
        self._begun = False
        self._failed: KafkaException | None = None
        self._added: set[Partition] = set()
        self._queued: dict[Partition, list[OutputRecord]] = {}
        self._under_way: dict[Partition, tuple[OutputRecord, ...]] = {}
        self._acknowledged: dict[Partition, int] = {}

    def init_transactions(self, _timeout: float) -> None:
        """Take the transactional id over."""
        self._writer = self._ask("InitProducerId", partial(self._cluster.coordinator.initialise, self._id))

    def poll(self, _timeout: float) -> int:
        """Deliver log lines; raise a fatal error once more."""
        self._cluster.scheduler.alive()
        lines, self._lines = self._lines, []
        for facility in lines:
            self._logger.log(4, "", facility, self._id, "the model says so")
        if self._failed is not None and self._failed.args[0].fatal():
            raise self._failed
        return 0

    def begin_transaction(self) -> None:
        """Open the transaction; the broker learns of it with the first partition."""
        self._cluster.scheduler.step("begin")
        self._refuse_after_failure()
        if self._begun or self._writer is None:
            raise wrong_state("begin")
        self._begun = True

    def produce(self, topic: str, value: bytes | None, key: bytes | None, *, headers: Sequence[Any]) -> None:
        """Queue a record."""
        self._cluster.scheduler.step("produce")
        self._refuse_after_failure()
        if not self._begun:
            raise wrong_state("produce")
        typed: Headers = tuple(headers)
        self._queued.setdefault(Partition(topic, 0), []).append(OutputRecord(topic, key, value, typed))
        if self._cluster.scheduler.random.random() < EARLY_SENDING:
            self._send_in_background()

    def send_offsets_to_transaction(
        self, offsets: Sequence[TopicPartition], group_metadata: bytes, _timeout: float
    ) -> None:
        """Put offsets into the transaction, in the name of the member in the metadata."""
        self._refuse_after_failure()
        writer = self._writing("send_offsets")
        points = {Partition(one.topic, one.partition): one.offset for one in offsets}
        self._add(GROUP, "AddOffsetsToTxn")
        sender = membership(group_metadata)
        self._ask("TxnOffsetCommit", partial(self._cluster.commit_offsets, writer, sender, points))

    def commit_transaction(self, _timeout: float) -> None:
        """Send what is queued, then end the transaction; may be called again after a time-out."""
        self._refuse_after_failure()
        writer = self._writing("commit")
        self._send_queued()
        self._end(writer, Fate.COMMITTED)

    def abort_transaction(self, _timeout: float) -> None:
        """Purge and abort. Nothing in the product calls this; planted defects do."""
        writer = self._writing("abort")
        self._queued.clear()
        self._under_way.clear()
        self._failed = None
        self._end(writer, Fate.ABORTED)

    def _end(self, writer: ProducerEpoch, fate: Fate) -> None:
        """End the transaction; the broker knows nothing of one without partitions."""
        if self._added:
            self._ask("EndTxn", partial(self._cluster.coordinator.end, writer, fate))
        self._added.clear()
        self._begun = False

    def _writing(self, call: str) -> ProducerEpoch:
        if not self._begun or self._writer is None:
            raise wrong_state(call)
        return self._writer

    def _refuse_after_failure(self) -> None:
        self._cluster.scheduler.alive()
        if self._failed is not None:
            raise self._failed

    def _send_in_background(self) -> None:
        """Let librdkafka's thread send; an error is raised by the next call, a time-out by none: it sends again."""
        try:
            self._send_queued()
        except KafkaException as error:
            if not error.args[0].retriable():
                self._failed = error

    def _send_queued(self) -> None:
        writer = self._writing("flush")
        for partition, records in self._queued.items():
            self._add(partition, "AddPartitionsToTxn")
            while records:
                # A batch that was sent once is sent again as it was: its sequence numbers stand for these records.
                batch = self._under_way.setdefault(partition, tuple(records))
                sequence = self._acknowledged.get(partition, 0)
                self._ask("Produce", partial(self._cluster.broker.produce, writer, partition, sequence, batch))
                self._acknowledged[partition] = sequence + len(batch)
                del self._under_way[partition], records[: len(batch)]

    def _add(self, partition: Partition, api: str) -> None:
        if partition not in self._added:
            self._ask(api, partial(self._cluster.coordinator.add, self._writing(api), partition))
            self._added.add(partition)

    def _ask(self, api: str, request: Callable[[], T]) -> T:
        try:
            return self._cluster.network.call(api, request, self._lines.append)
        except TimedOut as cause:
            raise timed_out(api) from cause
        except Refused as refused:
            self._failed = refusal(api, refused)
            raise self._failed from refused


def membership(group_metadata: bytes) -> Membership:
    """Return what serialised group metadata says; the counterpart of `serialised`."""
    generation = int.from_bytes(group_metadata[7:11], sys.byteorder, signed=True)
    _group, member, instance, _rest = group_metadata[11:].decode().split("\0")
    return Membership(generation, member, instance)


def serialised(sender: Membership) -> bytes:
    """Return metadata in the layout of `rd_kafka_consumer_group_metadata_write`."""
    generation = sender.generation.to_bytes(4, sys.byteorder, signed=True)
    return b"CGMDv2:" + generation + f"inventory\0{sender.member}\0{sender.instance}\0".encode()
