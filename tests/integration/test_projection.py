"""The projection process on a real broker and database."""

from collections.abc import Iterator
from functools import partial

import pytest
import sqlalchemy as sa

from common.events.codec import Codec
from common.events.inventory import InventoryReserved
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated
from common.postgres.engine import create_engine
from common.topics import INVENTORY_RESERVED, NOTIFICATION_SENT, ORDERS_CREATED
from order_service.core.status import OrderStatus, Status
from order_service.io.status_store import StatusStore
from tests.api import behind, start_projection
from tests.factories import make_order
from tests.forwarder import forward
from tests.pipeline import Pipeline
from tests.records import codec_of, wait_for, write, write_orders
from tests.refusals import REFUSED, refuse_user

COUNT_WRITES = """
    CREATE TABLE orders.writes (order_id uuid);
    CREATE FUNCTION orders.count_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $$ BEGIN INSERT INTO orders.writes VALUES (new.order_id); RETURN new; END $$;
    CREATE TRIGGER count_write AFTER INSERT OR UPDATE ON orders.order_status
        FOR EACH ROW EXECUTE FUNCTION orders.count_write();
"""


@pytest.fixture
def store(pipeline: Pipeline) -> Iterator[StatusStore]:
    engine = create_engine(pipeline.postgres("order_rw"), application="test", pool_size=1, autocommit=True)
    yield StatusStore(engine)
    engine.dispose()


def write_outcomes(pipeline: Pipeline, codec: Codec, orders: list[OrderCreated]) -> None:
    write(
        pipeline,
        INVENTORY_RESERVED,
        (
            (
                o.user_id.encode(),
                codec.encode(
                    InventoryReserved(o.order_id, o.order_id, o.user_id, o.lines, o.placed_at_ms, o.placed_at_ms + 5)
                ),
            )
            for o in orders
        ),
    )


def write_notifications(pipeline: Pipeline, codec: Codec, orders: list[OrderCreated]) -> None:
    write(
        pipeline,
        NOTIFICATION_SENT,
        (
            (
                o.user_id.encode(),
                codec.encode(
                    NotificationSent(o.order_id, o.order_id, o.user_id, Kind.ORDER_CONFIRMED, "log", o.placed_at_ms + 9)
                ),
            )
            for o in orders
        ),
    )


def complete(order: OrderCreated) -> OrderStatus:
    """Return the status of an order that was reserved and notified."""
    return OrderStatus(
        order.order_id,
        order.user_id,
        Status.RESERVED,
        order.lines,
        placed_at_ms=order.placed_at_ms,
        decided_at_ms=order.placed_at_ms + 5,
        notified_at_ms=order.placed_at_ms + 9,
    )


def known(pipeline: Pipeline) -> int:
    with pipeline.connect("reader") as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM orders.order_status")).scalar_one())


def progressed(pipeline: Pipeline, orders: int) -> bool:
    return known(pipeline) >= orders


def test_status_follows_all_four_topics_and_a_restart_goes_on(pipeline: Pipeline, store: StatusStore) -> None:
    codec = codec_of(pipeline)
    before, after = make_order(user_id="ada"), make_order(user_id="bob")
    projection = start_projection(pipeline).wait_ready()
    write_notifications(pipeline, codec, [before])
    write_outcomes(pipeline, codec, [before])
    write_orders(pipeline, [before])
    wait_for(lambda: store.find(before.order_id) == complete(before), what="the first order")
    assert projection.stop() == 0, projection.output()

    write_orders(pipeline, [after])
    write_outcomes(pipeline, codec, [after])
    write_notifications(pipeline, codec, [after])
    start_projection(pipeline)
    wait_for(lambda: store.find(after.order_id) == complete(after), what="the second order")
    assert store.find(before.order_id) == complete(before)


def test_record_that_the_table_cannot_take_is_passed_over_and_blocks_no_other(
    pipeline: Pipeline, store: StatusStore
) -> None:
    """PostgreSQL rejects a value of one record for good: the crash loop stopped the status of all orders."""
    refuse_user(pipeline, "orders.order_status")
    orders = [make_order(user_id=user) for user in ("ada", REFUSED, "bob", "cyd")]
    projection = start_projection(pipeline).wait_ready()
    codec = codec_of(pipeline)
    write(pipeline, ORDERS_CREATED, ((b"k", codec.encode(order)) for order in orders), partition=0)
    wait_for(
        lambda: store.find(orders[3].order_id) is not None or projection.exit_code is not None, what="the last order"
    )
    assert projection.exit_code is None, projection.output()
    assert [store.find(order.order_id) is not None for order in orders] == [True, False, True, True]
    assert projection.output().count('"record.rejected"') == 1
    (skipped,) = [line for line in projection.output().splitlines() if '"record.skipped"' in line]
    assert '"error_class": "database"' in skipped
    assert projection.stop() == 0

    again = start_projection(pipeline).wait_ready()  # the position is stored behind it
    write_orders(pipeline, [last := make_order()])
    wait_for(lambda: store.find(last.order_id) is not None, what="an order written later")
    assert '"record.rejected"' not in again.output()


def test_what_does_not_decode_is_passed_over_and_said(pipeline: Pipeline, store: StatusStore) -> None:
    order = make_order()
    write(pipeline, ORDERS_CREATED, [(b"k", b"garbage"), (b"k", None), (b"k", b"\x00\xff\xff\xff\xff...")], partition=0)
    write_orders(pipeline, [order], partition=0)
    projection = start_projection(pipeline)
    wait_for(lambda: store.find(order.order_id) is not None, what="the order behind the garbage")
    assert projection.output().count("record.skipped") == 3
    assert projection.exit_code is None


def test_impossible_outcome_is_passed_over(pipeline: Pipeline, store: StatusStore) -> None:
    """What the codec lets through and the table could not hold must not stop the projection for good."""
    codec, order = codec_of(pipeline), make_order()
    for broken in (
        InventoryReserved("e", "no uuid", "ada", order.lines, 1, 2),
        InventoryReserved("e", order.order_id, "a\x00da", order.lines, 1, 2),
        InventoryReserved("e", order.order_id, "ada", order.lines, 1, 2**62),
    ):
        write(pipeline, INVENTORY_RESERVED, [(b"k", codec.encode(broken))], partition=0)
    write_orders(pipeline, [order], partition=0)
    projection = start_projection(pipeline)
    wait_for(lambda: store.find(order.order_id) is not None, what="the order")
    wait_for(lambda: projection.output().count("record.skipped") == 3, what="three lines")


def test_killed_projection_applies_every_record_once(pipeline: Pipeline) -> None:
    """Aim: S17, offsets with the data. Fault: SIGKILL three times in the midst of 10,000 orders. A trigger counts the
    writes per order: every order has one record, so a second write would be an applied repetition."""
    with pipeline.administer() as connection:
        connection.exec_driver_sql(COUNT_WRITES)
    orders = [make_order(user_id=f"user-{n % 50}") for n in range(10_000)]
    write_orders(pipeline, orders)
    for kill in range(1, 4):
        projection = start_projection(pipeline)
        wait_for(partial(progressed, pipeline, kill * 1000), what=f"progress before kill {kill}")
        projection.kill()
    done = known(pipeline)
    assert done < len(orders), "killed too late: nothing was left to do"
    start_projection(pipeline)
    wait_for(lambda: known(pipeline) == len(orders), what="all orders")
    with pipeline.administer() as connection:
        doubled = connection.execute(sa.text("SELECT count(*) - count(DISTINCT order_id) FROM orders.writes"))
        assert doubled.scalar_one() == 0


def test_database_outage_pauses_the_projection_and_it_resumes(pipeline: Pipeline) -> None:
    orders = [make_order(user_id=f"user-{n}") for n in range(200)]
    with forward(pipeline.settings.postgres_admin_url) as postgres:
        projection = start_projection(pipeline, behind(pipeline, postgres)).wait_ready()
        postgres.cut()
        write_orders(pipeline, orders)
        wait_for(lambda: "work.paused" in projection.output(), what="the pause")
        assert known(pipeline) == 0
        postgres.heal()
        wait_for(lambda: known(pipeline) == len(orders), what="all orders")
        assert projection.exit_code is None
        projection.wait_ready()
