"""The orders that measurements run on: what is on the shelves, what customers want, and how it gets on the topic.

Everything that decides the work follows from one seed: SKUs, quantities, lines per order, who orders. Ids and times are
new in every run, as they are in the shop. Most stock is ample; some is scarce, one SKU is empty, and some orders name a
SKU that does not exist, so that no outcome goes without being measured.
"""

import random
import time
from collections.abc import Iterator
from itertools import accumulate, islice

import uuid_utils

from common.config import KafkaSettings
from common.events import envelope
from common.events.orders import OrderCreated, OrderLine
from common.kafka.schema_registry import open_codec
from common.topics import ORDERS_CREATED
from onceloop.kafka.acked_producer import AckedProducer
from onceloop.records import OutputRecord

SKUS = 5_000
ZIPF_EXPONENT = 1.1
USERS = 5_000
LINES_MAX = 5
QUANTITY_MAX = 3
UNKNOWN_PER_ORDER = 0.01
UNKNOWN_SKU = "discontinued"
AMPLE_UNITS, SCARCE_UNITS = 100_000_000, 1_000
EMPTY_RANK = 60
SCARCE_RANKS = frozenset({80, 120, 160, 200, 240})
"""By popularity: each is on about one line in a thousand."""

CHUNK = 2_000
"""Half of what the producer queues: one chunk is on its way while the next is being made."""
ACKNOWLEDGE_SECONDS = 5.0


def shelves() -> dict[str, int]:
    """Return SKU -> units on hand before the first order, the most wanted SKU first."""
    return {_sku(rank): _units(rank) for rank in range(SKUS)}


def stream(seed: int) -> Iterator[OrderCreated]:
    """Yield orders without end; the same seed asks for the same things in the same order."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    skus = list(shelves())
    weights = list(accumulate(1 / (rank + 1) ** ZIPF_EXPONENT for rank in range(SKUS)))
    while True:
        picked = dict.fromkeys(chance.choices(skus, cum_weights=weights, k=chance.randint(1, LINES_MAX)))
        if chance.random() < UNKNOWN_PER_ORDER:
            picked[UNKNOWN_SKU] = None
        yield OrderCreated(
            order_id=str(uuid_utils.uuid7()),
            user_id=f"user-{chance.randrange(USERS)}",
            lines=tuple([OrderLine(sku, chance.randint(1, QUANTITY_MAX)) for sku in picked]),
            placed_at_ms=time.time_ns() // 1_000_000,
        )


class Loader:
    """Puts orders on the topic ahead of those who work them off. `loaded`: how many so far."""

    def __init__(self, settings: KafkaSettings, *, seed: int) -> None:
        self.loaded = 0
        self._topic = ORDERS_CREATED.within(settings.namespace)
        self._codec = open_codec(settings, (ORDERS_CREATED,))
        self._orders = stream(seed)
        self._producer = AckedProducer(settings.kafka, client_id="bench")

    def load(self, count: int) -> None:
        """Put so many more orders on the topic; all are acknowledged when this returns.

        Raises Unacknowledged if the broker does not take them in time.
        """
        records = (self._record(order) for order in islice(self._orders, count))
        under_way = self._producer.send([])
        while chunk := list(islice(records, CHUNK)):
            following = self._producer.send(chunk)
            under_way.wait(ACKNOWLEDGE_SECONDS)
            under_way = following
            self.loaded += len(chunk)
        under_way.wait(ACKNOWLEDGE_SECONDS)

    def close(self) -> None:
        """Let the producer go."""
        self._producer.close()

    def _record(self, order: OrderCreated) -> OutputRecord:
        headers = envelope.headers(  # as order_service writes them: reading them is part of the work
            event_id=order.order_id, event_type="order.created", source="/orders", time_ms=order.placed_at_ms
        )
        return OutputRecord(self._topic, order.user_id.encode(), self._codec.encode(order), headers)


def _sku(rank: int) -> str:
    return f"sku-{rank:04d}"


def _units(rank: int) -> int:
    if rank == EMPTY_RANK:
        return 0
    return SCARCE_UNITS if rank in SCARCE_RANKS else AMPLE_UNITS
