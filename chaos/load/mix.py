"""What a load consists of, and what became of it, as values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The same mix asks for the same things in the same order; ids, keys and times are new in every run.

    `http_orders` and `direct_orders` count orders that may be served; what is refused, repeated or poison comes on top
    of them. Shares are parts of 1 of these numbers. Rates are orders per second, None for as fast as they are taken.
    """

    seed: int
    http_orders: int = 0
    direct_orders: int = 0
    http_rate: float | None = None
    direct_rate: float | None = None

    users: int = 60
    """Of each way in; every tenth one goes by an e-mail address."""
    skus: int = 40
    sku_prefix: str = "sku"
    units: int = 1_000_000
    """On hand of each SKU at the start; a few units make it scarce."""
    zipf_exponent: float = 1.1
    lines_max: int = 4
    quantity_max: int = 3
    crossed: float = 0.1
    """Want the two most popular SKUs, in one order of lines or the other: bait for a deadlock."""
    unknown: float = 0.01
    """Also want a SKU that is not stocked."""

    keyed: float = 0.7
    """Over HTTP with an Idempotency-Key."""
    paired: float = 0.05
    """Sent twice at once under one key."""
    conflicting: float = 0.03
    """Followed, half of them at once, by another order under the same key."""
    invalid: float = 0.03
    """Followed by a request that can only be refused."""

    duplicates: float = 0.1
    """On the topic again: next to itself, later, or later on another partition."""
    poison: float = 0.01
    """Followed by a record that holds no order."""
    late: float = 0.1
    """With a `placed_at` that is minutes or hours late, or seconds ahead."""

    def shelves(self) -> Mapping[str, int]:
        """Return SKU -> units on hand before the first order, the most wanted SKU first."""
        return {f"{self.sku_prefix}-{rank:03d}": self.units for rank in range(self.skus)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How a load went. `orders`: distinct ones known to be accepted, which is more than asked for if some were unsure.

    Over HTTP `ok`, `fail` and `info` count requests; on the topic `ok` counts acknowledged records, `info` the others.
    """

    orders: int
    ok: int
    fail: int = 0
    info: int = 0
    duplicates: int = 0
    poison: int = 0
    seconds: float
