"""The projection's SQL: the same join as the pure core, and offsets that never move back."""

import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from threading import Barrier

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated, OrderLine
from common.postgres.engine import create_engine
from onceloop.errors import Busy
from onceloop.records import CommitPoint, Partition
from order_service.core.status import OrderStatus, Status, StatusEvent, fold, status_from
from order_service.io.status_store import StatusStore
from tests.factories import make_order
from tests.pipeline import Pipeline, open_pipeline
from tests.stack import Stack

AT = Partition("orders.created", 0)
LINES = (OrderLine("tea", 2), OrderLine('m"ü,\\{g', 1))


@pytest.fixture(scope="module")
def pipeline(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with open_pipeline(servers, logs=tmp_path_factory.mktemp("store")) as opened:
        yield opened


@pytest.fixture(scope="module")
def store(pipeline: Pipeline) -> Iterator[StatusStore]:
    engine = create_engine(pipeline.postgres("order_rw"), application="test", pool_size=4, autocommit=True)
    yield StatusStore(engine)
    engine.dispose()


def new_partition() -> Partition:
    """Return a partition that no other test uses."""
    return Partition(uuid.uuid4().hex, 0)


def events_of(order: OrderCreated) -> list[StatusEvent]:
    at = order.placed_at_ms
    return [
        order,
        InventoryReserved("e1", order.order_id, order.user_id, order.lines[:1], at, at + 5),
        NotificationSent("e2", order.order_id, order.user_id, Kind.ORDER_CONFIRMED, "log", at + 10),
        NotificationSent("e2", order.order_id, order.user_id, Kind.ORDER_CONFIRMED, "log", at + 20),
    ]


def apply_each(store: StatusStore, batches: Sequence[Sequence[OrderStatus]]) -> None:
    at = new_partition()
    for offset, batch in enumerate(batches):
        store.apply(batch, {at: offset + 1}, left={at: offset} if offset else {})


def test_stored_order_reads_back_as_it_is_known(store: StatusStore) -> None:
    order = make_order(lines=LINES)
    failed = InventoryFailed(
        event_id="e",
        order_id=order.order_id,
        user_id=order.user_id,
        lines=LINES,
        reason=Reason.INSUFFICIENT_STOCK,
        sku="tea",
        requested=2,
        available=1,
        placed_at_ms=order.placed_at_ms,
        decided_at_ms=order.placed_at_ms + 7,
    )
    (known,) = fold([status_from(order), status_from(failed)])
    apply_each(store, [[known]])
    assert store.find(order.order_id) == known


def test_order_that_only_a_notification_names_is_not_shown(store: StatusStore) -> None:
    order = make_order(user_id=uuid.uuid4().hex)
    apply_each(store, [[status_from(events_of(order)[2])]])
    assert store.find(order.order_id) is None
    assert store.page({order.user_id}, before=None, limit=10) == []


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sql_joins_as_the_core_does(store: StatusStore, data: st.DataObject) -> None:
    """Whatever the sequence, the repetition and the cut into batches: the row is the fold of all events."""
    order = make_order(lines=[("tea", 2), ("mug", 1)])
    events = data.draw(st.lists(st.sampled_from(events_of(order)), min_size=1, max_size=6))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(events)))) | {0, len(events)})
    batches = [fold([status_from(event) for event in events[a:b]]) for a, b in pairwise(cuts)]
    apply_each(store, batches)
    (expected,) = fold([status_from(event) for event in events])
    assert store.find(order.order_id) == (expected if expected.placed_at_ms is not None else None)


def test_status_and_offset_are_stored_together_or_not_at_all(store: StatusStore) -> None:
    at = new_partition()
    order = status_from(make_order())
    impossible = replace(order, order_id="01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f", status=Status.FAILED)
    with pytest.raises(sa.exc.IntegrityError, match="order_status_decided_at_iff_decided"):
        store.apply([order, impossible], {at: 2}, left={})
    assert store.find(order.order_id) is None
    assert store.positions(frozenset({at})) == {}


def test_sleeper_neither_applies_again_nor_moves_the_offset_back(store: StatusStore) -> None:
    """Aim: a projection that slept through the loss of its partitions holds a batch that its successor has applied."""
    at = new_partition()
    first, second, third = (status_from(make_order()) for _ in range(3))
    store.apply([first], {at: 10}, left={})
    with pytest.raises(Busy, match="stands at 10"):
        store.apply([second], {at: 5}, left={})
    with pytest.raises(Busy, match="stands at 10"):
        store.apply([second], {at: 12}, left={at: 9})
    assert store.positions(frozenset({at})) == {at: CommitPoint(10)}
    assert store.find(second.order_id) is None
    store.apply([third], {at: 14}, left={at: 10})
    assert store.positions(frozenset({at})) == {at: CommitPoint(14)}


@pytest.mark.parametrize("restored", [{}, {0: 10}])
def test_tables_that_were_restored_are_not_jumped_over(store: StatusStore, restored: dict[int, int]) -> None:
    """Fault: a backup is restored under a running projection; its position is lower than before, or was never stored.

    Must hold: nothing is applied beyond it, or the orders between would keep their old status for ever.
    """
    at = new_partition()
    for position in restored.values():
        store.apply([], {at: position}, left={})
    order = status_from(make_order())
    with pytest.raises(Busy, match="this projection left it at 20"):
        store.apply([order], {at: 25}, left={at: 20})
    assert store.find(order.order_id) is None
    assert [point.offset for point in store.positions(frozenset({at})).values()] == list(restored.values())


def test_one_stale_partition_holds_the_whole_batch_back(store: StatusStore) -> None:
    stale, fresh = new_partition(), new_partition()
    store.apply([], {stale: 10}, left={})
    order = status_from(make_order())
    with pytest.raises(Busy):
        store.apply([order], {stale: 4, fresh: 1}, left={stale: 3})
    assert store.positions(frozenset({stale, fresh})) == {stale: CommitPoint(10)}
    assert store.find(order.order_id) is None


def test_of_two_projections_that_begin_at_once_one_is_refused(store: StatusStore) -> None:
    for _ in range(10):
        at = new_partition()
        start = Barrier(2)

        def begin(at: Partition = at, start: Barrier = start) -> bool:
            start.wait()
            try:
                store.apply([status_from(make_order())], {at: 1}, left={})
            except Busy:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            results = [pool.submit(begin), pool.submit(begin)]
        assert sorted(result.result() for result in results) == [False, True]


def test_order_and_outcome_written_at_once_lose_nothing(store: StatusStore) -> None:
    """Aim: partitions of two topics may for a moment be read by two processes; both write the same row."""
    for _ in range(10):
        order = make_order()
        created, reserved, sent, _ = (status_from(event) for event in events_of(order))
        start = Barrier(3)

        def write(status: OrderStatus, start: Barrier = start) -> None:
            start.wait()
            store.apply([status], {new_partition(): 1}, left={})

        with ThreadPoolExecutor(3) as pool:
            for result in [pool.submit(write, status) for status in (created, reserved, sent)]:
                result.result()
        assert [store.find(order.order_id)] == fold([created, reserved, sent])


def test_pages_follow_the_ids(store: StatusStore) -> None:
    user = uuid.uuid4().hex
    placed = [make_order(user_id=user) for _ in range(5)]
    apply_each(store, [fold([status_from(order) for order in placed])])
    ids = sorted((order.order_id for order in placed), reverse=True)
    assert [status.order_id for status in store.page({user}, before=None, limit=3)] == ids[:3]
    assert [status.order_id for status in store.page({user}, before=ids[2], limit=3)] == ids[3:]


def test_page_holds_the_orders_of_all_spellings_of_a_user(store: StatusStore) -> None:
    user = uuid.uuid4().hex
    spellings = (f"{user} caf\u00e9", f"{user} cafe\u0301")
    placed = [make_order(user_id=spelling) for spelling in (*spellings, *spellings)]
    apply_each(store, [fold([status_from(order) for order in [*placed, make_order(user_id=user)]])])
    ids = sorted((order.order_id for order in placed), reverse=True)
    assert [status.order_id for status in store.page(spellings, before=None, limit=3)] == ids[:3]
    assert [status.order_id for status in store.page(spellings, before=ids[2], limit=3)] == ids[3:]
