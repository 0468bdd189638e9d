from collections import Counter
from itertools import islice

from benchmarks import orders
from common.events.orders import OrderCreated


def some(seed: int, count: int) -> list[OrderCreated]:
    return list(islice(orders.stream(seed), count))


def asked_for(found: list[OrderCreated]) -> list[tuple[str, object]]:
    return [(order.user_id, order.lines) for order in found]


def test_the_same_seed_asks_for_the_same_things() -> None:
    assert asked_for(some(7, 500)) == asked_for(some(7, 500))
    assert asked_for(some(7, 500)) != asked_for(some(8, 500))


def test_ids_are_new_in_every_run() -> None:
    assert len({order.order_id for order in some(7, 500) + some(7, 500)}) == 1000


def test_every_order_may_be() -> None:
    assert [order.violation() for order in some(1, 5_000) if order.violation()] == []


def test_no_outcome_goes_without_being_measured() -> None:
    units = orders.shelves()
    wanted = Counter(line.sku for order in some(1, 20_000) for line in order.lines)
    unknown = sum(count for sku, count in wanted.items() if sku not in units)
    empty = sum(count for sku, count in wanted.items() if units.get(sku) == 0)
    scarce = sum(count for sku, count in wanted.items() if units.get(sku) == orders.SCARCE_UNITS)
    assert 100 < unknown < 300
    assert empty > 20
    assert scarce > 100


def test_few_skus_are_wanted_by_many() -> None:
    wanted = Counter(line.sku for order in some(1, 20_000) for line in order.lines)
    most_wanted = next(iter(orders.shelves()))
    assert wanted.most_common(1)[0][0] == most_wanted
    assert wanted[most_wanted] > 0.1 * wanted.total()
