"""One real worker on a real broker and database: what orders lead to."""

import time

import sqlalchemy as sa

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import Seen, codec_of, read, wait_for, write_orders


def start_worker(pipeline: Pipeline, *, slot: int = 0, **env: str) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw", slot=slot, env=env)


def outcomes(pipeline: Pipeline) -> list[Seen]:
    return read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED)


def test_order_is_reserved_or_fails_with_the_line_that_lacked(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10, "mug": 1})
    plenty, short, unknown = (
        make_order(lines=[("tea", 2), ("mug", 1)]),
        make_order(lines=[("tea", 2), ("mug", 1)]),
        make_order(lines=[("tea", 1), ("spoon", 3)]),
    )
    start_worker(pipeline).wait_ready()
    write_orders(pipeline, [plenty, short, unknown])
    wait_for(lambda: len(outcomes(pipeline)) == 3, what="three outcomes")

    codec = codec_of(pipeline)
    reserved = [codec.decode(InventoryReserved, seen.value) for seen in read(pipeline, INVENTORY_RESERVED)]
    failed = {
        event.order_id: event
        for event in (codec.decode(InventoryFailed, seen.value) for seen in read(pipeline, INVENTORY_FAILED))
    }
    assert [event.order_id for event in reserved] == [plenty.order_id]
    assert (failed[short.order_id].reason, failed[short.order_id].sku) == (Reason.INSUFFICIENT_STOCK, "mug")
    assert (failed[unknown.order_id].reason, failed[unknown.order_id].sku) == (Reason.UNKNOWN_SKU, "spoon")
    assert pipeline.available() == {"tea": 8, "mug": 0}


def test_worker_stops_within_five_seconds_and_says_so(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 1000})
    worker = start_worker(pipeline).wait_ready()
    write_orders(pipeline, [make_order() for _ in range(500)])
    wait_for(lambda: len(outcomes(pipeline)) > 0, what="a first outcome")
    started = time.monotonic()
    assert worker.stop() == 0, worker.output()
    assert time.monotonic() - started < 5


def test_orderly_end_is_no_start_that_counts(pipeline: Pipeline) -> None:
    """Only processes that die over a record may put its partition into quarantine."""
    pipeline.set_stock({"tea": 10})
    worker = start_worker(pipeline).wait_ready()
    write_orders(pipeline, [make_order(), make_order()], partition=0)
    wait_for(lambda: len(outcomes(pipeline)) == 2, what="two outcomes")
    with pipeline.administer() as connection:
        connection.execute(sa.text("UPDATE inventory.start SET starts = 5"))
        assert worker.stop() == 0
        assert connection.scalar(sa.text("SELECT starts FROM inventory.start")) == 4
