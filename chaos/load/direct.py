"""Orders in bulk, straight onto `orders.created`, by a producer of the load's own; and the record of what it wrote.

The producer is idempotent, so a broker that dies makes no unplanned copies, and it goes on trying for longer
than a broker's restart takes. What was not acknowledged by then is noted without a coordinate: it may be there.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import confluent_kafka
import uuid_utils
from confluent_kafka import KafkaError, KafkaException, Message

from audit.readers.collector import digest
from audit.readers.written import WrittenWriter
from audit.testimony import Kind, Written
from chaos.load.mix import Mix, Tally
from chaos.load.records import PlannedRecord, records
from common.config import KafkaSettings
from common.events import envelope
from common.kafka.schema_registry import open_codec
from common.topics import MESSAGE_BYTES_MAX, ORDERS_CREATED

PATIENCE_SECONDS = 60.0
CALL_SECONDS = 10.0
QUEUED_RECORDS_MAX = 10_000
POLL_EVERY = 100
ROOM_SECONDS = 0.1


def wall_clock_ms() -> int:
    """Return the time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class DirectLoad:
    """Writes the records of a mix and appends to `written`.

    Setting `stop` ends a run once what was handed over is acknowledged or given up. `done` counts the records whose
    end is known. `now_ms` returns when each order is placed.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        written: Path,
        *,
        now_ms: Callable[[], int] = wall_clock_ms,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.stop = threading.Event()
        self.done = 0
        self._settings = settings
        self._topic = ORDERS_CREATED.within(settings.namespace)
        self._written = written
        self._now_ms = now_ms
        self._patience_seconds = patience_seconds

    def run(self, mix: Mix) -> Tally:
        """Write all records, or those until the stop; return once the end of each is known.

        Raises FatalError if the registry does not answer at the start, KafkaException if the broker stays away.
        """
        began = time.monotonic()
        codec = open_codec(self._settings, (ORDERS_CREATED,))
        with WrittenWriter(self._written) as written:
            writing = _Writing(self._options(), self._topic, written)
            planned = records(
                mix,
                codec,
                partitions=writing.partitions(self._patience_seconds),
                new_id=lambda: str(uuid_utils.uuid7()),
                now_ms=self._now_ms,
            )
            for number, record in enumerate(planned):
                if mix.direct_rate and (early := began + number / mix.direct_rate - time.monotonic()) > 0:
                    writing.poll()
                    self.stop.wait(early)
                if self.stop.is_set():
                    break
                writing.write(record)
                self.done = writing.done
            writing.finish(self._patience_seconds)
            self.done = writing.done
        return writing.tally(time.monotonic() - began)

    def write(self, planned: Iterable[PlannedRecord]) -> Tally:
        """Write these records; return once the end of each is known."""
        began = time.monotonic()
        with WrittenWriter(self._written) as written:
            writing = _Writing(self._options(), self._topic, written)
            for record in planned:
                writing.write(record)
            writing.finish(self._patience_seconds)
        return writing.tally(time.monotonic() - began)

    def _options(self) -> dict[str, str | int | float | bool]:
        return {
            "bootstrap.servers": self._settings.kafka_bootstrap,
            "client.id": "load",
            "log_level": 2,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.max.bytes": 2 * MESSAGE_BYTES_MAX,
            "message.timeout.ms": round(1000 * self._patience_seconds),
            "socket.timeout.ms": 3000,
            "retry.backoff.ms": 20,
            "retry.backoff.max.ms": 200,
            "reconnect.backoff.max.ms": 500,
            "queue.buffering.max.messages": QUEUED_RECORDS_MAX,
            **self._settings.kafka_options,
        }


class _Writing:
    """One run's producer, and the count of what became of its records."""

    def __init__(self, options: dict[str, str | int | float | bool], topic: str, written: WrittenWriter) -> None:
        self._options = options
        self._topic = topic
        self._written = written
        self._producer = confluent_kafka.Producer(options)
        self._ends: Counter[tuple[Kind, bool]] = Counter()
        self._orders: set[str] = set()
        self._handed_over = 0
        self.done = 0

    def partitions(self, patience_seconds: float) -> int:
        """Return how many partitions the topic has; the broker may be down for so long."""
        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                found = self._producer.list_topics(self._topic, timeout=CALL_SECONDS).topics[self._topic]
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(ROOM_SECONDS)
            else:
                break
        if found.error is not None:
            raise KafkaException(found.error)
        return len(found.partitions)

    def write(self, record: PlannedRecord) -> None:
        """Hand one record over, as soon as there is room."""
        self._handed_over += 1
        if self._handed_over % POLL_EVERY == 0:
            self.poll()
        headers = envelope.headers(
            event_id=record.order_id, event_type="order.created", source="/load", time_ms=max(record.placed_at_ms, 0)
        )
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    record.value,
                    record.user.encode(),
                    partition=record.partition,
                    headers=list(headers),
                    on_delivery=partial(self._note, record),
                )
            except BufferError:
                self.poll(ROOM_SECONDS)
            except KafkaException as error:
                self._note(record, error.args[0], None)
                self._rebuild_if_fatal(error)
                return
            else:
                return

    def poll(self, seconds: float = 0) -> None:
        """Take delivery reports."""
        try:
            self._producer.poll(seconds)
        except KafkaException as error:
            self._rebuild_if_fatal(error)

    def finish(self, seconds: float) -> None:
        """Wait until the end of every record is known; the producer gives up by itself after so long."""
        deadline = time.monotonic() + seconds + CALL_SECONDS
        while len(self._producer) and time.monotonic() < deadline:
            self.poll(ROOM_SECONDS)
        self._producer.purge()
        self.poll(ROOM_SECONDS)

    def tally(self, seconds: float) -> Tally:
        """Return how it went."""
        return Tally(
            orders=len(self._orders),
            ok=sum(count for (_, acked), count in self._ends.items() if acked),
            info=sum(count for (_, acked), count in self._ends.items() if not acked),
            duplicates=self._ends[Kind.COPY, True],
            poison=self._ends[Kind.POISON, True],
            seconds=seconds,
        )

    def _note(self, record: PlannedRecord, error: KafkaError | None, message: Message | None) -> None:
        """Take one delivery report."""
        partition = offset = None
        if error is None and message is not None:  # never by its truth: a message without value is false
            partition, offset = message.partition(), message.offset()
        acked = offset is not None
        self._ends[record.kind, acked] += 1
        self.done += 1
        if acked and record.kind is not Kind.POISON:
            self._orders.add(record.order_id)
        self._written.note(
            Written(
                record.kind,
                record.what,
                record.order_id,
                record.user,
                partition,
                offset,
                digest(record.user.encode(), record.value).hex() if record.kind is Kind.POISON else "",
            )
        )

    def _rebuild_if_fatal(self, error: KafkaException) -> None:
        """Go on with a new producer after an error that the old one never gets past; what it held may be there."""
        cause = error.args[0]
        if not (cause.fatal() or cause.code() == KafkaError._FATAL):  # noqa: SLF001 - produce's word
            return
        refusing, self._producer = self._producer, confluent_kafka.Producer(self._options)
        refusing.purge()
        deadline = time.monotonic() + CALL_SECONDS
        while len(refusing) and time.monotonic() < deadline:  # each record is noted, or poison would seem unplanted
            with suppress(KafkaException):  # the same fatal error again
                refusing.poll(ROOM_SECONDS)
