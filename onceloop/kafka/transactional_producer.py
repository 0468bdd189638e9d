"""The transactional producer of one slot: publish a plan in one Kafka transaction, and know when not to trust it again.

librdkafka speaks the transaction protocol without an epoch per transaction. A late EndTxn, Produce or TxnOffsetCommit
of one transaction can therefore act on the next one of the same producer, in silence. So a producer is used again only
after a clean, quick commit on connections that stayed up; after anything else it is *tainted*: dropped, and rebuilt
with the same id, which fences whatever is still on its way. Nothing here ever aborts: the new epoch does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

from confluent_kafka import KafkaException

from onceloop import failpoints, metrics
from onceloop.kafka.errors import ErrorKind, classify, is_fenced, kafka_error
from onceloop.kafka.group_consumer import topic_partitions
from onceloop.records import OutputRecord, Publish
from onceloop.runtime import REAL, Runtime

SLICE_SECONDS = 2.0
"""One blocking call: a signal waits so long at most."""
RETURN_SECONDS = 5.0
"""By then a call that takes a slice at most has forgotten it: half of a transaction's time."""


class End(Enum):
    """How a transaction ended, as far as this process can know."""

    COMMITTED = auto()
    UNKNOWN = auto()
    """Perhaps committed, perhaps not; the new producer settles it, the committed offsets show which."""


class Taint:
    """What librdkafka's log reports of connections and requests; the first sign is kept.

    `error_cb` stays silent when a lost answer is retried inside a call that then succeeds. The log does not: `REQTMOUT`
    and `FAIL` lines, and, since `FAIL` lines are suppressed when they repeat, the state changes of `debug=broker`.
    Kept apart from the producer: a reference from its callbacks back to it would keep a dropped one alive.
    """

    def __init__(self) -> None:
        self.cause = ""

    def because(self, cause: str) -> None:
        """Taint, unless it is already."""
        self.cause = self.cause or cause

    def log(self, _level: int, _format: str, facility: str, _handle: str, text: str) -> None:
        """Take one log line, in the shape that confluent-kafka calls a logger with."""
        if facility in {"REQTMOUT", "FAIL"} or (facility == "STATE" and text.endswith("-> DOWN")):
            self.because(facility.lower())


class TransactionalProducer:
    """One librdkafka producer and its taint. Not initialised yet: see `initialise`."""

    def __init__(self, options: Mapping[str, Any], *, service: str, runtime: Runtime = REAL) -> None:
        self.fenced = False
        self._service = service
        self._runtime = runtime
        self._taint = Taint()
        self._slow_seconds = options["socket.timeout.ms"] / 2 / 1000
        self._commit_seconds = options["transaction.timeout.ms"] * 0.8 / 1000
        self._caller = runtime.caller()
        self._producer = runtime.producer({**options, "debug": "broker"}, logger=self._taint)

    def initialise(self) -> None:
        """Take over the slot: fence every earlier producer of this id and settle what it left open.

        Raises KafkaException; a retriable one may be answered by calling again.
        """
        self._producer.init_transactions(SLICE_SECONDS)
        self._producer.poll(0)
        self._taint.cause = ""  # connections that came and went while connecting say nothing about transactions

    def drop(self) -> None:
        """Give the client up; nothing of this object may be used afterwards.

        Never closed: close() takes no time-out, and with an open transaction and the broker away it does not return.
        Releasing the last reference ends it within milliseconds, but for a rare hang inside librdkafka; so that happens
        on a thread of its own. What it may still have under way is fenced by the slot's next producer. A call that
        never returned keeps the client.
        """
        held = [self._producer]
        del self._producer
        self._caller.close()
        self._runtime.start_thread(held.clear, "dropped-producer")

    def tainted(self) -> str:
        """Return why this producer must not begin another transaction, or an empty text."""
        try:
            self._producer.poll(0)  # log lines of the last call arrive with the first poll after it
        except KafkaException:  # a fatal error is raised by whatever polls next
            self._taint.because("fatal")
        return self._taint.cause

    def publish(self, plan: Publish, group_metadata: Any, *, stopping: Callable[[], bool]) -> End:
        """Begin, write the records, send the offsets, commit: all visible at once, or nothing.

        A crash before the commit reaches the broker leaves an open transaction, which the slot's next producer aborts;
        a crash after it leaves a committed one, which the committed offsets show.
        """
        try:
            self._producer.begin_transaction()
            self._point("begun")
            self._write(plan.records)
            self._point("produced")
            self._point("flushed")
            with self._slow_means_taint("send_offsets"):
                self._send_offsets(plan, group_metadata)
            self._point("offsets_sent")
            return self._commit(stopping)
        except Exception as error:  # noqa: BLE001 - whatever it was: a callback's error, say, can mask a commit that worked
            self._note("publish", error)
            return End.UNKNOWN

    def _send_offsets(self, plan: Publish, group_metadata: Any) -> None:
        producer, offsets = self._producer, topic_partitions(plan.offsets)
        self._caller.call(
            RETURN_SECONDS, lambda: producer.send_offsets_to_transaction(offsets, group_metadata, SLICE_SECONDS)
        )

    def _write(self, records: Sequence[OutputRecord]) -> None:
        half = len(records) // 2
        for index, record in enumerate(records):
            if index == half:
                self._point("produced_half")
            self._send(record)
            if record.is_dead_letter:
                self._point("dlq.produced")

    def _send(self, record: OutputRecord) -> None:
        while True:
            try:
                self._producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
            except BufferError:
                self._producer.poll(0.05)  # then the same record: one that is skipped is lost
            else:
                return

    def _commit(self, stopping: Callable[[], bool]) -> End:
        started = self._runtime.clock.monotonic()
        while self._runtime.clock.monotonic() - started < (SLICE_SECONDS if stopping() else self._commit_seconds):
            try:
                with self._slow_means_taint("commit"):
                    self._producer.commit_transaction(SLICE_SECONDS)
            except KafkaException as error:
                self._note("commit", error)
                # An open outcome: only "commit again" is legal, an abort would conflict with the commit under way.
                if classify(error.args[0]) is not ErrorKind.RETRIABLE:
                    return End.UNKNOWN
            else:
                return End.COMMITTED
        return End.UNKNOWN

    @contextmanager
    def _slow_means_taint(self, call: str) -> Iterator[None]:
        """Taint if the call fails or takes so long that a hidden retry may have a first copy still under way."""
        started = self._runtime.clock.monotonic()
        try:
            yield
        except BaseException:
            self._taint.because(call)
            raise
        if self._runtime.clock.monotonic() - started >= self._slow_seconds:
            self._taint.because(f"{call} slow")

    def _note(self, call: str, error: Exception) -> None:
        cause = kafka_error(error)
        kind, name = (classify(cause), cause.name()) if cause else (ErrorKind.UNFLAGGED, type(error).__name__)
        self.fenced = self.fenced or (cause is not None and is_fenced(cause))
        self._taint.because(call)
        self._runtime.observer.count(metrics.TRANSACTION_ERRORS, kind, name)
        self._runtime.observer.log("warning", "transaction.unsure", call=call, kind=kind, error=name, text=str(error))

    def _point(self, name: str) -> None:
        failpoints.point(f"{self._service}:{name}")
