"""Which records decide, which repeat the stored answer, which stay silent: the owner rule."""

from hypothesis import given
from hypothesis import strategies as st

from inventory_service.core.replay import Arrival, Coordinate, Decision, owners, undecided
from onceloop.records import Partition
from tests.factories import make_order


def at(offset: int, *, partition: int = 0) -> Coordinate:
    return Coordinate(Partition("orders.created", partition), offset)


def arrival(order: str, offset: int, *, partition: int = 0) -> Arrival:
    return Arrival(at(offset, partition=partition), b"ada", b"bytes", make_order(order_id=order))


def decision(order: str, owner: Coordinate) -> Decision:
    return Decision(order, reason=None, event_id=f"event of {order}", event=b"bytes", owner=owner, decided_at_ms=1)


def decided_by(arrivals: list[Arrival]) -> dict[str, Decision]:
    return {a.order.order_id: decision(a.order.order_id, a.coordinate) for a in arrivals}


def test_order_twice_in_a_batch_is_decided_once_and_published_once() -> None:
    batch = [arrival("a", 5), arrival("b", 6), arrival("a", 7)]
    fresh = undecided(batch, {})
    assert [a.coordinate for a in fresh] == [at(5), at(6)]
    assert [a.coordinate for a, _ in owners(batch, decided_by(fresh))] == [at(5), at(6)]


def test_order_that_comes_again_later_is_silent() -> None:
    known = {"a": decision("a", at(5))}
    batch = [arrival("a", 90)]
    assert undecided(batch, known) == []
    assert owners(batch, known) == []


def test_order_that_comes_again_on_another_partition_is_silent() -> None:
    known = {"a": decision("a", at(5, partition=0))}
    batch = [arrival("a", 5, partition=1)]
    assert undecided(batch, known) == []
    assert owners(batch, known) == []


def test_owner_record_that_is_redelivered_repeats_the_stored_bytes() -> None:
    known = {"a": decision("a", at(5))}
    batch = [arrival("a", 5)]
    assert undecided(batch, known) == []
    assert owners(batch, known) == [(batch[0], known["a"])]


def test_owner_speaks_and_its_twin_in_the_same_batch_stays_silent() -> None:
    known = {"a": decision("a", at(7))}
    batch = [arrival("a", 3), arrival("a", 7)]
    assert [a.coordinate for a, _ in owners(batch, known)] == [at(7)]


COPIES = st.lists(st.sampled_from("abcde"), max_size=40)


@given(COPIES, st.integers(0, 40))
def test_one_record_per_order_emits__however_often_and_in_whatever_batches_it_comes(
    orders: list[str], cut: int
) -> None:
    arrived = [arrival(order, offset) for offset, order in enumerate(orders)]
    known: dict[str, Decision] = {}
    published = []
    for batch in (arrived[:cut], arrived[cut:]):
        known |= decided_by(undecided(batch, known))
        published += [a.order.order_id for a, _ in owners(batch, known)]
    assert sorted(published) == sorted(set(orders))


@given(COPIES)
def test_replaying_a_batch_from_its_start_yields_the_same_decisions_in_the_same_order(orders: list[str]) -> None:
    batch = [arrival(order, offset) for offset, order in enumerate(orders)]
    first = decided_by(undecided(batch, {}))
    assert undecided(batch, first) == []
    assert owners(batch, first) == owners(batch, dict(reversed(first.items())))
