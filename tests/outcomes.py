"""Outcome events as the inventory writes them, and the minutes that become of them."""

import time
from collections.abc import Sequence

import confluent_kafka

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.orders import OrderLine
from common.events.volume import MINUTE_MS, MinuteVolume, minute_name, minute_of
from common.topics import INVENTORY_RESERVED, MINUTE_VOLUMES, Topic
from tests.pipeline import Pipeline
from tests.records import codec_of, read

QUICK = {
    "PIPELINE_METRICS_IDLE_SECONDS": "0.5",
    "PIPELINE_METRICS_LATENESS_SECONDS": "1",
    "PIPELINE_METRICS_SETTLE_SECONDS": "0.3",
    "PIPELINE_METRICS_EMPTY_MINUTE_SECONDS": "0",
}
"""Shorter waits for late orders, in the order that production's have."""
LONG_AGO = minute_of(int(time.time() * 1000)) - 120 * MINUTE_MS
"""A minute that is over, so that no test waits for its end."""

EVENT_ID, ORDER_ID = "01963c1e-7b44-7000-8000-00000000000a", "01963c1e-7b44-7000-8000-0000000000ff"


class Outcomes:
    """Writes outcome events in transactions, whose markers take offsets."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._codec = codec_of(pipeline)
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": pipeline.kafka.kafka_bootstrap,
                "transactional.id": f"{pipeline.namespace}.outcomes",
                "linger.ms": 0,
            }
        )
        self._producer.init_transactions(10)

    def write(self, placed_at_ms: Sequence[int], *, topic: Topic = INVENTORY_RESERVED, partition: int = 0) -> None:
        """Write one event per time, in one transaction."""
        self._producer.begin_transaction()
        for at in placed_at_ms:
            self._producer.produce(
                topic.within(self._pipeline.namespace), self._event(topic, at), b"ada", partition=partition
            )
        self._producer.commit_transaction(10)

    def _event(self, topic: Topic, at: int) -> bytes:
        lines = (OrderLine("tea", 2),)
        if topic == INVENTORY_RESERVED:
            return self._codec.encode(InventoryReserved(EVENT_ID, ORDER_ID, "ada", lines, at, at + 20))
        reason = Reason.INSUFFICIENT_STOCK
        return self._codec.encode(InventoryFailed(EVENT_ID, ORDER_ID, "ada", lines, reason, "tea", 2, 0, at, at + 20))


def totals(pipeline: Pipeline) -> dict[int, MinuteVolume]:
    """Return the last total of each minute; a revision never falls."""
    codec, found = codec_of(pipeline), dict[int, MinuteVolume]()
    for seen in read(pipeline, MINUTE_VOLUMES):
        total = codec.decode(MinuteVolume, seen.value)
        assert seen.key == minute_name(total.minute_ms).encode()
        assert total.minute_ms not in found or total.revision > found[total.minute_ms].revision, "a revision fell"
        found[total.minute_ms] = total
    return found


def orders(pipeline: Pipeline) -> dict[int, int]:
    """Return orders per minute, minutes counted from `LONG_AGO`."""
    return {(minute - LONG_AGO) // MINUTE_MS: total.orders for minute, total in totals(pipeline).items()}
