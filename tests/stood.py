"""A pipeline that has done all it does, once, and stands still: what a test plants in its books, it finds alone."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audit.since import audit_since
from audit.whole import Auditor
from common.events.orders import OrderCreated
from common.events.volume import MINUTE_MS
from common.topics import MINUTE_VOLUMES, ORDERS_CREATED
from tests.audits import broken, execute, settings_of
from tests.factories import make_order
from tests.outcomes import LONG_AGO, QUICK
from tests.pipeline import Pipeline, open_pipeline
from tests.records import codec_of, read, wait_for, write, write_orders
from tests.stack import Stack

UNREADABLE = b"garbage"


@dataclass(frozen=True, slots=True)
class Stood:
    """`reserved` and `failed` are orders of minutes long over; the former has an Idempotency-Key."""

    pipeline: Pipeline
    reserved: str
    failed: str

    def broken(self) -> dict[str, list[str]]:
        """Judge all of it, read again, without a wait; return what is broken, by rule."""
        with Auditor(settings_of(self.pipeline)) as auditor:
            return broken(auditor.audit(wait_seconds=0))

    def broken_since(self, memory: Path) -> dict[str, list[str]]:
        """Judge what has changed since the memory was left; return what is broken, by rule."""
        return broken(audit_since(settings_of(self.pipeline), memory, from_start=False, wait_seconds=0).judgement)


@contextmanager
def stood(pipeline: Pipeline) -> Iterator[Stood]:
    """Run all workers over a reserved, a failed and an unreadable order, until all is counted; end them."""
    pipeline.set_stock({"tea": 10, "mug": 0})
    reserved = make_order(lines=[("tea", 2)], placed_at_ms=LONG_AGO)
    failed = make_order(lines=[("tea", 1), ("mug", 3)], user_id="bob", placed_at_ms=LONG_AGO + MINUTE_MS)
    workers = [
        pipeline.start("inventory_service", role="inventory_rw"),
        pipeline.start("notification_service", role="notification_rw"),
        pipeline.start("order_service", "projection", role="order_rw"),
        *(pipeline.start("metrics_service", step, role="reader", env=QUICK) for step in ("windows", "totals")),
    ]
    for worker in workers:
        worker.wait_ready()
    write_orders(pipeline, [reserved, failed])
    write(pipeline, ORDERS_CREATED, [(b"eve", UNREADABLE)])
    store_key(pipeline, reserved)
    wait_for(lambda: len(read(pipeline, MINUTE_VOLUMES)) >= 2, what="the minutes")
    with Auditor(settings_of(pipeline)) as auditor:
        assert broken(auditor.audit(wait_seconds=30)) == {}
    for worker in workers:
        assert worker.stop() == 0, worker.output()
    yield Stood(pipeline, reserved.order_id, failed.order_id)


def store_key(pipeline: Pipeline, order: OrderCreated) -> None:
    """Write the row that the API would have written for the order."""
    request = {"lines": [[line.sku, line.quantity] for line in order.lines], "user_id": order.user_id}
    execute(
        pipeline,
        """
        INSERT INTO orders.idempotency_key (user_id, key, fingerprint, order_id, event, acknowledged_at)
        VALUES (:user_id, '7f1c', :fingerprint, :order_id, :event, now())
        """,
        user_id=order.user_id,
        fingerprint=hashlib.sha256(json.dumps(request, separators=(",", ":")).encode()).digest(),
        order_id=order.order_id,
        event=codec_of(pipeline).encode(order),
    )


@contextmanager
def open_stood(servers: Stack, folder: Path) -> Iterator[Stood]:
    """Open a pipeline for the tests of a whole module and have it done."""
    folder.mkdir(exist_ok=True)
    with open_pipeline(servers, logs=folder) as pipeline, stood(pipeline) as here:
        yield here
