"""What an interleaving is about: orders, their duplicates, poison, holes, stock, and how rough it gets."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import TypeVar

from chaos.model.broker import Entry
from chaos.model.network import Weather
from chaos.model.tables import REJECTED_SKU
from common.events.codec import EVENT_TYPES, Codec
from common.events.orders import OrderCreated, OrderLine
from common.topics import ORDERS_CREATED
from onceloop.errors import Undecodable
from onceloop.records import Partition

K = TypeVar("K")

SKUS = ("cup", "tea")
CUSTOMERS = 2
"""So few that orders of one customer meet, also on several partitions, as after partitions were added."""
NO_BYTES_OF_OURS = b"\x07 no frame"


class Kind(Enum):
    """What an input record is."""

    ORDER = auto()
    UNDECODABLE = auto()
    REJECTED = auto()
    """Decodes, but the database takes no row of it."""
    HOLE = auto()


@dataclass(frozen=True, slots=True)
class Input:
    """One offset of the input, in the order of writing."""

    partition: Partition
    kind: Kind
    order_id: str
    entry: Entry | None


class Fault(Enum):
    """What may strike a worker or the database."""

    KILL = auto()
    FREEZE = auto()
    TERMINATE = auto()
    DATABASE_AWAY = auto()
    EXPEL = auto()


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that chance decides before the first step. Shares are of 1; at most `faults` of `fault_kinds` strike.

    Each scenario allows some kinds of trouble and not others: a defect that needs two of one kind in a row is found
    where nothing else gets in between (Groce et al., "Swarm Testing", 2012).
    """

    inputs: tuple[Input, ...]
    partitions: tuple[Partition, ...]
    on_hand: dict[str, int]
    slots: int
    batch_records_max: int
    steps: int
    faults: int
    fault_kinds: tuple[Fault, ...]
    frozen_are_replaced: bool
    weathers: tuple[Weather, ...]
    restless: float
    rough_network: float
    promptness: float
    rough_database: float


def draw(chance: random.Random) -> Scenario:
    """Return a scenario: small, so that many fit into a second; every trouble is common in some of them."""
    slots = chance.choice((1, 2, 2, 2, 3))
    partitions = tuple(Partition(ORDERS_CREATED.name, number) for number in range(min(3, slots + chance.randint(0, 1))))
    return Scenario(
        inputs=tuple(_inputs(chance, partitions)),
        partitions=partitions,
        on_hand={sku: chance.randint(1, 8) for sku in SKUS},
        slots=slots,
        batch_records_max=chance.choice((1, 2, 4)),
        steps=chance.randint(60, 320),
        faults=chance.choice((0, 1, 2, 3, 4)),
        fault_kinds=_some(chance, tuple(Fault)),
        frozen_are_replaced=chance.random() < 0.5,  # noqa: PLR2004 - a coin
        weathers=_some(chance, tuple(Weather)),
        restless=chance.choice((0.1, 0.2, 0.4)),
        rough_network=chance.choice((0.0, 0.03, 0.1, 0.3)),
        promptness=chance.choice((0.0, 0.1, 1.0)),
        rough_database=chance.choice((0.0, 0.0, 0.03, 0.1)),
    )


def _some(chance: random.Random, kinds: tuple[K, ...]) -> tuple[K, ...]:
    return tuple(chance.sample(kinds, chance.randint(1, len(kinds))))


def _inputs(chance: random.Random, partitions: tuple[Partition, ...]) -> Iterator[Input]:
    written: list[Input] = []
    for number in range(chance.randint(2, 6)):
        lot = chance.random()
        if lot < 0.06:  # noqa: PLR2004 - shares of the lot
            yield Input(chance.choice(partitions), Kind.HOLE, "", None)
        elif lot < 0.14:  # noqa: PLR2004
            yield Input(chance.choice(partitions), Kind.UNDECODABLE, "", Entry(b"user", NO_BYTES_OF_OURS, ()))
        else:
            rejected = lot < 0.2  # noqa: PLR2004
            lines = _lines(chance) if not rejected else ((REJECTED_SKU, 1),)
            order_id, entry = _order(number, lines)
            kind = Kind.REJECTED if rejected else Kind.ORDER
            written.append(Input(chance.choice(partitions), kind, order_id, entry))
            yield written[-1]
        if written and chance.random() < 0.25:  # noqa: PLR2004
            again = chance.choice(written)
            yield Input(chance.choice(partitions), again.kind, again.order_id, again.entry)


def _lines(chance: random.Random) -> tuple[tuple[str, int], ...]:
    if chance.random() < 0.05:  # noqa: PLR2004
        return (("unknown", 1),)
    return tuple((sku, chance.randint(1, 3)) for sku in chance.sample(SKUS, chance.randint(1, 2)))


@cache
def _order(number: int, lines: tuple[tuple[str, int], ...]) -> tuple[str, Entry]:
    """Return an order's id and record; few differ, so they are made once."""
    order_id = f"00000000-0000-7000-8000-{number:012x}"
    order = OrderCreated(
        order_id, f"user-{number % CUSTOMERS}", tuple(OrderLine(*line) for line in lines), 1_700_000_000_000
    )
    return order_id, Entry(order.user_id.encode(), codec().encode(order), ())


@cache
def codec() -> Codec:
    """Return the product's codec over a registry that knows the newest schemas."""
    return Codec({event.__name__: number for number, event in enumerate(EVENT_TYPES, 1)}, _unknown_schema)


def _unknown_schema(schema_id: int) -> str:
    raise Undecodable("schema", f"schema id {schema_id} is not registered")
