"""The inventory's decision as a handler of `Once`: what the generic store costs against the inventory's own.

Same orders, same allocation, same events; only the store differs. Stock is a table of the app's own schema.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import uuid_utils

from benchmarks.orders import shelves
from common.config import KafkaSettings, load
from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed
from common.events.orders import OrderCreated
from common.kafka.schema_registry import open_codec
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED
from inventory_service.core.allocation import allocate
from inventory_service.core.rule import Context, Demand, Outcome, Reserved, check
from onceloop import InputRecord, Once, OutputRecord
from onceloop.prometheus import PrometheusObserver

RESERVED, FAILED = "bench.reserved", "bench.failed"
PARTITIONS = 8
SCHEMA = "bench"
CREATE = "CREATE TABLE stock (sku text PRIMARY KEY, available int NOT NULL CHECK (available >= 0))"
_AVAILABLE = r"SELECT sku, available FROM stock WHERE sku = ANY(string_to_array(%b, E'\x1f'))"
_TAKE = r"""
UPDATE stock s SET available = s.available - t.units
FROM unnest(string_to_array(%b, E'\x1f'), string_to_array(%b, ',')::int[]) AS t(sku, units) WHERE s.sku = t.sku
"""
_SEPARATOR = "\x1f"


class Settings(KafkaSettings):
    """Where the bench runs."""

    bench_postgres: str
    bench_batch: int
    bench_health_port: int


def build(settings: Settings) -> Once:
    """Return the app."""
    codec = open_codec(settings, (ORDERS_CREATED, INVENTORY_RESERVED, INVENTORY_FAILED))
    observer = PrometheusObserver()
    app = Once(
        kafka=settings.kafka,
        postgres=settings.bench_postgres,
        group="bench-decided",
        inputs=[ORDERS_CREATED.within(settings.namespace)],
        outputs=[RESERVED, FAILED],
        schema=SCHEMA,
        batch_records_max=settings.bench_batch,
        health_port=settings.bench_health_port,
        observer=observer,
        metrics_page=observer.page,
    )

    @app.batch(key=lambda record: order_id(record.value))
    def reserve(records: Sequence[InputRecord], db: psycopg.Connection) -> Iterator[list[OutputRecord]]:
        orders = [codec.decode(OrderCreated, record.value) for record in records]
        skus = {line.sku for order in orders for line in order.lines}
        with db.cursor(binary=True) as cursor:
            available: dict[str, int] = dict(cursor.execute(_AVAILABLE, [_SEPARATOR.join(skus)]).fetchall())
            demands = [Demand(order.order_id, order.user_id, order.lines, order.placed_at_ms) for order in orders]
            allocation = allocate(demands, available, Context())
            check(demands, allocation)
            taken = dict(sorted(allocation.taken.items()))
            if taken:
                cursor.execute(_TAKE, [_SEPARATOR.join(taken), ",".join(map(str, taken.values()))])
        now_ms = time.time_ns() // 1_000_000
        for record, order, outcome in zip(records, orders, allocation.outcomes, strict=True):
            yield [_event(codec, record, order, outcome, now_ms)]

    return app


def prepare(app: Once) -> None:
    """Make what the app needs, the same stock as the inventory's included."""
    app.init(partitions=PARTITIONS)
    with psycopg.connect(app.postgres, autocommit=True, options=f"-c search_path={SCHEMA}") as connection:
        connection.execute(CREATE)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO stock VALUES (%s, %s)", list(shelves().items()))
        connection.execute("ANALYZE stock")  # as autovacuum does within a minute


def order_id(value: bytes | None) -> bytes:
    """Return the id that stands first in an order's Avro: 5 bytes say its schema, one its length of 36."""
    return (value or b"")[6:42]


def _event(codec: Codec, record: InputRecord, order: OrderCreated, outcome: Outcome, now_ms: int) -> OutputRecord:
    event_id = str(uuid_utils.uuid7())
    reserved = isinstance(outcome, Reserved)
    headers = (
        *envelope.headers(
            event_id=event_id,
            event_type="inventory.reserved" if reserved else "inventory.failed",
            source="/inventory",
            time_ms=now_ms,
        ),
        *envelope.origin_headers(topic=record.partition.topic, partition=record.partition.number, offset=record.offset),
    )
    if isinstance(outcome, Reserved):
        value = codec.encode_reserved(record.value or b"", event_id=event_id, decided_at_ms=now_ms)
        return OutputRecord(RESERVED, record.key, value, headers)
    details: dict[str, Any] = {name: getattr(outcome, name) for name in ("reason", "sku", "requested", "available")}
    failed = InventoryFailed(
        event_id=event_id,
        order_id=order.order_id,
        user_id=order.user_id,
        lines=order.lines,
        placed_at_ms=order.placed_at_ms,
        decided_at_ms=now_ms,
        **details,
    )
    return OutputRecord(FAILED, record.key, codec.encode(failed), headers)


if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        prepare(build(load(Settings)))
    else:
        build(load(Settings)).main()
