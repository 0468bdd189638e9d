"""Terms that the books and the testimony share: where a record stands, what is ordered, what is on a shelf."""

from collections.abc import Mapping
from typing import NamedTuple

Lines = tuple[tuple[str, int], ...]
"""SKU and quantity in units, in the order of the order."""


class Spot(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Coordinate(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic} {self.partition}@{self.offset}"

    @property
    def spot(self) -> Spot:
        """Return the partition it is in."""
        return Spot(self.topic, self.partition)


Offsets = Mapping[Spot, int]


Sums = tuple[int, int, int]
"""Reserved orders, failed orders, units of the reserved."""


class KeyHolder(NamedTuple):
    """Whose Idempotency-Key it is: the two together stand for one order."""

    user: str
    key: str


class Stock(NamedTuple):
    """A row of `inventory.stock`, and the sum of what reserved decisions hold of it; units."""

    sku: str
    on_hand: int | None
    available: int | None
    reserved: int


class Turns(NamedTuple):
    """A customer whose decisions are not numbered 1, 2, 3: how many have a number, and the highest."""

    user: str
    counted: int
    highest: int


class Tally(NamedTuple):
    """How many orders `inventory.decision_total` counts with a verdict and a reason, and how many rows there are."""

    verdict: int
    reason: str
    counted: int
    recorded: int


def below(at: Coordinate, offsets: Offsets) -> bool:
    """Return True if a reader that stands at these offsets has left this record behind."""
    return at.offset < offsets.get(at.spot, 0)
