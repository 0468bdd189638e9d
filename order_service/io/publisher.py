"""Order events as bytes, and those bytes onto `orders.created`. Built after fork.

The API starts although broker or registry may be down: what could not be had at once is tried for in the background,
and until then `encode` is Busy. A record follows from the stored bytes alone, headers included, so that every attempt
writes the same one.
"""

import threading

from common.config import KafkaSettings
from common.events import envelope
from common.events.codec import Codec
from common.events.orders import OrderCreated
from common.kafka.schema_registry import open_codec
from common.log import get_logger
from common.telemetry import OBSERVER
from common.topics import ORDERS_CREATED, Group
from onceloop.errors import Busy, ReportedError
from onceloop.kafka.acked_producer import AckedProducer, Delivery
from onceloop.kafka.errors import Refusal
from onceloop.records import OutputRecord
from order_service.io.refusal_note import RefusalNote

EVENT_TYPE = "order.created"
EVENT_SOURCE = "/orders"
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 5.0
BROKER_SECONDS_MAX = 1.0

log = get_logger()


class Publisher:
    """One per process; threads share it."""

    def __init__(self, settings: KafkaSettings, note: RefusalNote) -> None:
        self._settings = settings
        self._topic = ORDERS_CREATED.within(settings.namespace)
        self._producer = AckedProducer(
            settings.kafka, client_id=Group("order").within(settings.namespace), observer=OBSERVER
        )
        self._codec: Codec | None = None
        self._no_codec = "the schema of orders is not loaded yet"
        self._note = note
        self._closing = threading.Event()
        if not self._open_codec():
            threading.Thread(target=self._keep_opening, name="codec", daemon=True).start()
        self._producer.reaches(
            self._topic, timeout_seconds=BROKER_SECONDS_MAX
        )  # connected before the first order comes

    def encode(self, order: OrderCreated) -> bytes:
        """Return the bytes to store and to send. Raises Busy until the schema registry answered once."""
        return self._ready_codec().encode(order)

    def send(self, event: bytes, order: OrderCreated | None = None) -> Delivery:
        """Hand bytes over to the broker, without waiting. `order`: what they hold, where that is known.

        Raises Unacknowledged if the client does not take them, Busy if the bytes' schema cannot be had now.
        """
        order = order or self._ready_codec().decode(OrderCreated, event)
        return self._producer.send(
            [
                OutputRecord(
                    self._topic,
                    key=order.user_id.encode(),
                    value=event,
                    headers=envelope.headers(
                        event_id=order.order_id, event_type=EVENT_TYPE, source=EVENT_SOURCE, time_ms=order.placed_at_ms
                    ),
                )
            ]
        )

    def missing(self) -> tuple[str, ...]:
        """Return the names of what is missing, after a second at most; empty: an order can be published."""
        missing = [] if self._codec is not None else ["schema"]
        if not self._producer.reaches(self._topic, timeout_seconds=BROKER_SECONDS_MAX):
            missing.append("broker")
        elif (refusal := self._note.standing()) is not None:
            missing.append(f"broker ({refusal.name.lower()})")
        return tuple(missing)

    def learn(self, refusal: Refusal | None) -> None:
        """Take note of what became of an order: a refusal that all others would meet, or that the broker accepts them.

        Takes a second at most.
        """
        if refusal is None:
            self._note.clear()
        elif refusal.meets_all:
            self._note.write(refusal)
        if refusal in {Refusal.NO_TOPIC, Refusal.FORBIDDEN}:
            # The client remembers such an answer, and would ask again within minutes only.
            self._producer.reaches(self._topic, timeout_seconds=BROKER_SECONDS_MAX)

    def close(self) -> None:
        """Wait shortly for what is on its way, then stop."""
        self._closing.set()
        self._producer.close()

    def _ready_codec(self) -> Codec:
        if self._codec is None:
            raise Busy(self._no_codec)
        return self._codec

    def _keep_opening(self) -> None:
        pause_seconds = PAUSE_SECONDS_MIN
        while not self._closing.wait(pause_seconds) and not self._open_codec():
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)

    def _open_codec(self) -> bool:
        try:
            self._codec = open_codec(self._settings, [ORDERS_CREATED])
        except ReportedError as error:
            self._no_codec = error.message
            log.warning("codec.missed", reason=error.message, cure=error.cure)
            return False
        return True
