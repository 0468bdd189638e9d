"""The records that a mix puts straight onto `orders.created`: orders, their copies, and poison, in order. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from audit.testimony import Kind
from chaos.load.mix import Mix
from chaos.load.orders import Customers
from chaos.load.partitions import home_of
from chaos.load.poison import POISON
from common.events.codec import Codec
from common.events.orders import OrderCreated, OrderLine

LATER_MAX = 400
"""How many orders may lie between an order and its copy."""
LATE_MINUTES_MAX = 300
AHEAD_MS_MAX = 5000


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """One record. `placed_at_ms` is its event time, whatever the value says."""

    kind: Kind
    what: str
    order_id: str
    user: str
    value: bytes | None
    partition: int
    placed_at_ms: int


def records(
    mix: Mix, codec: Codec, *, partitions: int, new_id: Callable[[], str], now_ms: Callable[[], int]
) -> Iterator[PlannedRecord]:
    """Yield the records in the order in which they are written; ids and times alone come from outside."""
    customers = Customers(mix, way="shop")
    chance = customers.chance
    spoil = tuple(POISON.items())
    copies: list[tuple[int, int, PlannedRecord]] = []  # due at which order
    for number in range(mix.direct_orders):
        wanted = customers.want()
        lines = tuple([OrderLine(sku, quantity) for sku, quantity in wanted.lines])
        placed_at_ms = now_ms() - _late_ms(customers)
        order = OrderCreated(new_id(), wanted.user, lines, placed_at_ms)
        home = home_of(wanted.user.encode(), partitions)
        record = PlannedRecord(Kind.ORDER, "", order.order_id, wanted.user, codec.encode(order), home, placed_at_ms)
        yield record
        if chance.random() < mix.duplicates:
            copy = _copy(record, customers, partitions)
            if copy.what == "next to itself":
                yield copy
            else:
                heappush(copies, (number + chance.randint(1, LATER_MAX), number, copy))
        if chance.random() < mix.poison:
            name, spoiled = chance.choice(spoil)
            yield PlannedRecord(Kind.POISON, name, "", wanted.user, spoiled(codec, order), home, placed_at_ms)
        while copies and copies[0][0] <= number:
            yield heappop(copies)[-1]
    while copies:
        yield heappop(copies)[-1]


def _late_ms(customers: Customers) -> int:
    """Return by how much an order's time lies before now; below 0 for a clock that is ahead."""
    chance = customers.chance
    if chance.random() >= customers.mix.late:
        return 0
    return chance.choice((-chance.randint(1, AHEAD_MS_MAX), 60_000 * chance.randint(1, LATE_MINUTES_MAX)))


def _copy(record: PlannedRecord, customers: Customers, partitions: int) -> PlannedRecord:
    what = customers.chance.choice(("next to itself", "later", "elsewhere"))
    partition = record.partition
    if what == "elsewhere" and partitions > 1:
        partition = (partition + customers.chance.randrange(1, partitions)) % partitions
    return PlannedRecord(Kind.COPY, what, record.order_id, record.user, record.value, partition, record.placed_at_ms)
