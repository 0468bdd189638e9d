"""Notify customers of the outcome of their orders: claim, send, mark, publish; the loop commits the offsets after that.

Effects of one batch in order, and what a crash behind each leads to when the records come again:

1. claim: ledger rows are written, `claimed`. Nothing has left; the rows are found and their messages are sent.
2. send: the letters of one group leave. The rows still say `claimed`, so this group, and nothing else, leaves a second
   time, under the same Message-IDs. This is the one window in which a crash notifies a customer twice.
3. mark: the group's rows say `sent`. They are not sent again.
4. publish: dead letters and one `NotificationSent` per row are acknowledged. Otherwise the next attempt publishes them,
   with the time that the row holds: the same event under the same id, which readers de-duplicate by.
5. offsets. Until they are committed the batch comes again, finds every row `sent` and publishes again.

A process that is frozen until others have its partitions is a crash that wakes up: it sends the group in hand, finds
its time over, and rewinds. While a process lives, an outage of PostgreSQL between 2 and 3 notifies no customer twice:
it remembers which letters left unmarked. A letter that is refused for good (5xx) becomes a dead letter and its row
stays `claimed`, so that the record, once sent in again, is tried again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from common import metrics
from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.log import get_logger
from common.telemetry import OBSERVER
from common.topics import (
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    NOTIFICATION,
    NOTIFICATION_SENT,
    Topic,
    dead_letter_topic,
)
from notification_service.core.entries import Entry, Key, claim, notification_sent
from notification_service.core.messages import message
from notification_service.core.outcomes import Outcome
from notification_service.io import ledger_store
from notification_service.io.recipient_limit import RecipientLimit
from notification_service.io.senders import Delivery, End, Letter, Sender
from onceloop import failpoints
from onceloop.dead_letter import dead_letter
from onceloop.errors import Busy, Poison, Undecodable
from onceloop.kafka.acked_producer import AckedProducer, Unacknowledged
from onceloop.lifecycle import Stop
from onceloop.metrics import DEAD_LETTERS
from onceloop.records import InputRecord, OutputRecord

PUBLISH_SECONDS = 6.0
"""The producer gives a record up after 5 s, so its own answer arrives first."""
SOURCES: dict[Topic, type[Outcome]] = {INVENTORY_RESERVED: InventoryReserved, INVENTORY_FAILED: InventoryFailed}

log = get_logger()


@dataclass(frozen=True, slots=True)
class Arrival:
    """An outcome, and the record it came in."""

    record: InputRecord
    outcome: Outcome


@dataclass(slots=True)
class _Batch:
    """What is known of one batch while it is worked on; the keys keep the order of arrival."""

    arrivals: dict[Key, Arrival] = field(default_factory=dict)
    dead_letters: list[OutputRecord] = field(default_factory=list)
    entries: dict[Key, Entry] = field(default_factory=dict)
    sent_at_ms: dict[Key, int] = field(default_factory=dict)
    put_off: int = 0


class NotificationHandler:
    """The work of one batch.

    `attempts_max`: how often a letter is tried that the server puts off each time. `limit`: of mails to one recipient;
    None where letters are no mails. `seconds_max`: no group is begun
    later; less than the group's session time-out, so that a process that slept while others took over sends no more.
    """

    def __init__(
        self,
        *,
        engine: sa.Engine,
        codec: Codec,
        sender: Sender,
        producer: AckedProducer,
        namespace: str,
        mail_domain: str,
        attempts_max: int,
        limit: RecipientLimit | None,
        seconds_max: float,
        stop: Stop,
    ) -> None:
        self._engine = engine
        self._codec = codec
        self._sender = sender
        self._producer = producer
        self._namespace = namespace
        self._mail_domain = mail_domain
        self._attempts_max = attempts_max
        self._limit = limit
        self._seconds_max = seconds_max
        self._stop = stop
        self._sources = {topic.within(namespace): topic for topic in SOURCES}
        self._letters_of = {dead_letter_topic(topic, NOTIFICATION).within(namespace): topic.name for topic in SOURCES}
        self._unmarked: set[Key] = set()

    def handle(self, records: Sequence[InputRecord]) -> None:
        """Do all of it for these records. Raises Busy to have them again."""
        deadline = time.monotonic() + self._seconds_max
        failpoints.point("notification:taken")
        batch = self._decode(records)
        if batch.arrivals:
            with ledger_store.connected(self._engine) as connection:
                self._claim(connection, batch)
                failpoints.point("notification:ledger.claimed")
                self._notify(connection, batch, deadline=deadline)
        self._publish(batch)
        log.info(
            "batch.notified", records=len(records), sent=len(batch.sent_at_ms), dead_letters=len(batch.dead_letters)
        )

    def reject(self, record: InputRecord, poison: Poison) -> None:
        """Publish the dead letter of a record that cannot be worked on. Raises Busy."""
        self._publish(_Batch(dead_letters=[self._dead_letter(record, Undecodable(poison.error_class, str(poison)))]))

    def _decode(self, records: Sequence[InputRecord]) -> _Batch:
        """Return the outcomes, and dead letters of records that hold none. An outcome that is repeated counts once."""
        batch = _Batch()
        for record in records:
            try:
                outcome = self._codec.decode(SOURCES[self._sources[record.partition.topic]], record.value)
            except Undecodable as cause:
                batch.dead_letters.append(self._dead_letter(record, cause))
            else:
                batch.arrivals.setdefault(Key.of(outcome), Arrival(record, outcome))
        return batch

    def _claim(self, connection: sa.Connection, batch: _Batch) -> None:
        channel = self._sender.channel
        claims = [
            claim(arrival.outcome, channel=channel, domain=self._mail_domain) for arrival in batch.arrivals.values()
        ]
        batch.entries = ledger_store.claim(connection, claims, channel=channel)
        known = {key: entry.sent_at_ms for key, entry in batch.entries.items() if entry.sent_at_ms is not None}
        batch.sent_at_ms.update(known)
        self._unmarked -= known.keys()
        metrics.NOTIFICATIONS.labels(channel, "known").inc(len(known))

    def _notify(self, connection: sa.Connection, batch: _Batch, *, deadline: float) -> None:
        """Send what is due, each group marked before the next one leaves.

        Raises Busy if the channel does not work, if the batch takes too long or a stop was asked for, and, once all
        others are notified, if a recipient is put off.
        """
        due = [batch.entries[key] for key in batch.arrivals if key not in batch.sent_at_ms]
        if self._limit is not None and due:
            self._limit.read(connection, {entry.user_id for entry in due})
        for first in range(0, len(due), self._sender.together):
            if self._stop() or time.monotonic() > deadline:
                raise Busy("the rest of the batch is notified next time")
            group = due[first : first + self._sender.together]
            failpoints.point("notification:before_send")
            for entry in group:
                self._send(entry, batch)
            failpoints.point("notification:sent")
            self._mark(connection, [entry.key for entry in group if entry.key in self._unmarked], batch)
            failpoints.point("notification:ledger.done")
        if batch.put_off:
            raise Busy(f"{batch.put_off} recipients are put off by the server")

    def _send(self, entry: Entry, batch: _Batch) -> None:
        """Send one letter, unless it left before and lacks its mark alone."""
        if entry.key in self._unmarked:
            return
        arrival = batch.arrivals[entry.key]
        delivery = self._deliver(Letter(entry.key.order_id, entry.user_id, entry.message_id, message(arrival.outcome)))
        end = delivery.end
        match end:
            case End.SENT:
                self._unmarked.add(entry.key)
            case End.PUT_OFF if entry.attempts < self._attempts_max:
                batch.put_off += 1
            case End.PUT_OFF | End.REFUSED | End.OVER_LIMIT:
                cause = Undecodable(f"recipient_{end.name.lower()}", delivery.reply)
                batch.dead_letters.append(self._dead_letter(arrival.record, cause))
        metrics.NOTIFICATIONS.labels(self._sender.channel, end.name.lower()).inc()

    def _deliver(self, letter: Letter) -> Delivery:
        if self._limit is None:
            return self._sender.send(letter)
        if self._limit.reached(letter.user_id):
            return Delivery(End.OVER_LIMIT, f"{self._limit.mails_max} mails within an hour")
        delivery = self._sender.send(letter)
        if delivery.end is End.SENT:
            self._limit.count(letter.user_id)
        return delivery

    def _mark(self, connection: sa.Connection, keys: Sequence[Key], batch: _Batch) -> None:
        if keys:
            batch.sent_at_ms.update(ledger_store.mark(connection, keys, channel=self._sender.channel))
            self._unmarked.difference_update(keys)

    def _publish(self, batch: _Batch) -> None:
        """Wait until dead letters and events are acknowledged."""
        try:
            self._producer.produce([*batch.dead_letters, *self._events(batch)], timeout_seconds=PUBLISH_SECONDS)
        except Unacknowledged as error:
            raise Busy(f"broker: {error}") from error
        for letter in batch.dead_letters:
            OBSERVER.count(DEAD_LETTERS, self._letters_of[letter.topic])

    def _events(self, batch: _Batch) -> Iterator[OutputRecord]:
        """Yield a `NotificationSent` for each row that is sent, in order of arrival, keyed as its record was."""
        for key, arrival in batch.arrivals.items():
            if key not in batch.sent_at_ms:
                continue
            event = notification_sent(batch.entries[key], batch.sent_at_ms[key], channel=self._sender.channel)
            partition = arrival.record.partition
            yield OutputRecord(
                topic=NOTIFICATION_SENT.within(self._namespace),
                key=arrival.record.key,
                value=self._codec.encode(event),
                headers=(
                    *envelope.headers(
                        event_id=event.event_id,
                        event_type=NOTIFICATION_SENT.name,
                        source="/notification",
                        time_ms=event.sent_at_ms,
                    ),
                    *envelope.origin_headers(
                        topic=partition.topic, partition=partition.number, offset=arrival.record.offset
                    ),
                ),
            )

    def _dead_letter(self, record: InputRecord, cause: Undecodable) -> OutputRecord:
        topic = self._sources[record.partition.topic]
        log.warning(
            "record.dead_lettered",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            error_class=cause.error_class,
            reason=cause.reason,
        )
        return dead_letter(record, cause, topic=dead_letter_topic(topic, NOTIFICATION).within(self._namespace))
