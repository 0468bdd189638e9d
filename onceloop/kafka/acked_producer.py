"""An idempotent producer outside any transaction: a record counts once every in-sync replica acknowledged it.

`send` hands records over, the returned `Delivery` waits; many threads may do both at once. One thread of its own polls
for the acknowledgements, so a process builds its producer after fork: an inherited handle has no threads behind it.

What was not acknowledged in time may still have been written: `Unacknowledged` means "maybe", and only a repetition of
the same bytes makes it sure. Nothing is sent later than `message.timeout.ms` (5 s) after it was handed over.

`NotWritten` means "no": the broker said so of the only attempt there was. The client does not report how many there
were, but it waits before it tries again; a refusal that comes earlier answers the first one (docs/adr/0048).
"""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from onceloop.config import KafkaConfig
from onceloop.errors import FatalError
from onceloop.kafka.errors import Refusal, is_about_credentials, kafka_error, refusal_at_once, refusal_by_broker
from onceloop.kafka.group_consumer import ClientLog
from onceloop.kafka.options import Options, idempotent_producer_options
from onceloop.records import OutputRecord
from onceloop.telemetry import SILENT, Observer

POLL_SECONDS = 0.2
PURGE_SECONDS = 1.0
CLOSE_SECONDS = 2.0
QUEUED_RECORDS_MAX = 10_000
"""More than all threads of a process can be waiting for; a full queue says that the broker is away."""
RETRY_BACKOFF_MAX_MS = 1000
"""librdkafka's default of retry.backoff.max.ms."""
RETRY_JITTER = 0.2
"""How much less than its back-off librdkafka may wait (RD_KAFKA_RETRY_JITTER_PERCENT)."""


class Unacknowledged(Exception):  # noqa: N818 - the design's word; the records may well be on the topic
    """No acknowledgement: perhaps written, perhaps not. The same records again make it sure."""


class NotWritten(Unacknowledged):
    """None of the records was written, nor will be."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"refused: {detail}")
        self.refusal = refusal


class Delivery:
    """Records on their way. What is reported within `first_attempt_seconds` was sent to the broker once at most."""

    def __init__(self, records: int, *, first_attempt_seconds: float = 0.0) -> None:
        self._left = self._records = records
        self._first_attempt_until = time.monotonic() + first_attempt_seconds
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._error: KafkaError | None = None
        self._refusals: list[Refusal] = []
        if records == 0:
            self._settled.set()

    def report(self, error: KafkaError | None, _message: Message | None) -> None:
        """Take one delivery report. Called inside the client's poll, where nothing may raise."""
        first_attempt = time.monotonic() < self._first_attempt_until
        with self._lock:
            self._left -= 1
            self._error = self._error or error
            if error is not None and (refusal := refusal_by_broker(error, first_attempt=first_attempt)):
                self._refusals.append(refusal)
            if self._left == 0:
                self._settled.set()

    def wait(self, timeout_seconds: float) -> None:
        """Return once every record is acknowledged.

        Raises Unacknowledged if one failed, or if the time is over; NotWritten if none is written.
        """
        if not self._settled.wait(timeout_seconds):
            raise Unacknowledged(f"no acknowledgement within {timeout_seconds:.1f} s")
        if self._error is None:
            return
        if len(self._refusals) == self._records:
            raise NotWritten(self._refusals[0], self._error.str())
        raise Unacknowledged(self._error.str())


class AckedProducer:
    """One producer for the whole process."""

    def __init__(self, kafka: KafkaConfig, *, client_id: str = "acked", observer: Observer = SILENT) -> None:
        self._observer = observer
        self._options: Options = {
            "queue.buffering.max.messages": QUEUED_RECORDS_MAX,
            **idempotent_producer_options(kafka, client_id=client_id),
        }
        self._first_attempt_seconds = first_attempt_seconds(self._options)
        self._pid = os.getpid()
        self._replacing = threading.Lock()
        self._producer = self._build()
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="acknowledgements", daemon=True)
        self._poller.start()

    def send(self, records: Sequence[OutputRecord]) -> Delivery:
        """Hand the records over, without waiting.

        Raises NotWritten if the queue is full or the client refuses the first record, Unacknowledged if it is a later
        one: those before it are on their way.
        """
        self._refuse_after_fork()
        delivery = Delivery(len(records), first_attempt_seconds=self._first_attempt_seconds)
        producer = self._producer
        for number, record in enumerate(records):
            try:
                producer.produce(
                    record.topic, record.value, record.key, headers=list(record.headers), on_delivery=delivery.report
                )
            except (BufferError, KafkaException) as error:
                if isinstance(error, KafkaException):
                    self._replace_if_fatal(producer, error)
                detail = "too many records wait for the broker" if isinstance(error, BufferError) else str(error)
                if number:
                    raise Unacknowledged(detail) from error
                raise NotWritten(refusal_at_once(error), detail) from error
        return delivery

    def produce(self, records: Sequence[OutputRecord], *, timeout_seconds: float) -> None:
        """Return once all records are acknowledged.

        Raises Unacknowledged: some of them may be on the topic; NotWritten: none is.
        """
        self.send(records).wait(timeout_seconds)

    def reaches(self, topic: str, *, timeout_seconds: float) -> bool:
        """Return True if a broker answers within the time and knows the topic."""
        self._refuse_after_fork()
        try:
            found = self._producer.list_topics(topic, timeout=timeout_seconds).topics.get(topic)
        except KafkaException:
            return False
        return found is not None and found.error is None

    def close(self) -> None:
        """Wait shortly for what is on its way, then stop."""
        self._producer.flush(CLOSE_SECONDS)
        self._closing.set()
        self._poller.join(CLOSE_SECONDS)

    def _poll(self) -> None:
        while not self._closing.is_set():
            producer = self._producer
            try:
                producer.poll(POLL_SECONDS)
            except KafkaException as error:  # a fatal error is raised by whatever polls next
                self._replace_if_fatal(producer, error)

    def _replace_if_fatal(self, refusing: confluent_kafka.Producer, error: KafkaException) -> None:
        """Rebuild the producer after a fatal error, which no call on the old one will ever get past.

        What waited in the old one is reported as failed; a new producer may repeat it, since readers bear that.
        """
        cause = kafka_error(error)
        if cause is None or not (cause.fatal() or cause.code() == KafkaError._FATAL):  # noqa: SLF001 - produce's word
            return
        with self._replacing:
            if self._producer is not refusing:
                return
            self._observer.log("warning", "producer.rebuilt", error=cause.name(), text=cause.str())
            self._producer = self._build()
        refusing.purge()
        deadline = time.monotonic() + PURGE_SECONDS
        while len(refusing) and time.monotonic() < deadline:
            with suppress(KafkaException):  # the same fatal error again
                refusing.poll(POLL_SECONDS)

    def _build(self) -> confluent_kafka.Producer:
        return confluent_kafka.Producer({**self._options, "error_cb": self._on_error}, logger=ClientLog(self._observer))

    def _on_error(self, error: KafkaError) -> None:
        """Take what the client says of its brokers. Called inside `poll`."""
        if is_about_credentials(error):
            self._observer.log("warning", "broker.distrusted", error=error.str())

    def _refuse_after_fork(self) -> None:
        if os.getpid() != self._pid:
            raise FatalError("a Kafka producer crossed a fork", cure="build it in the process that uses it")


def first_attempt_seconds(options: Options) -> float:
    """Return how long after a record was handed over it cannot have been sent a second time yet."""
    least_ms = min(float(options["retry.backoff.ms"]), float(options.get("retry.backoff.max.ms", RETRY_BACKOFF_MAX_MS)))
    return (1 - RETRY_JITTER) * least_ms / 1000
