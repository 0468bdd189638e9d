"""Decide which orders get stock. Pure.

In order of arrival, all lines of an order or none; `available` never falls below zero. The same orders on the same
stock give the same outcomes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from common.events.inventory import Reason
from common.events.orders import OrderLine


class Demand(NamedTuple):
    """What one order asks for. A SKU stands on one line at most, quantities are at least 1."""

    order_id: str
    lines: tuple[OrderLine, ...]


class Reserved(NamedTuple):
    """All lines are held."""

    order_id: str


class Failed(NamedTuple):
    """Nothing is held; the first line that lacked stock, in units."""

    order_id: str
    reason: Reason
    sku: str
    requested: int
    available: int


Outcome = Reserved | Failed


@dataclass(frozen=True, slots=True)
class Allocation:
    """One outcome per demand, in their order; units taken per SKU, only SKUs that lose some."""

    outcomes: tuple[Outcome, ...]
    taken: Mapping[str, int]


def allocate(demands: Iterable[Demand], available: Mapping[str, int]) -> Allocation:
    """Return who gets what. A SKU that `available` lacks is unknown."""
    left = dict(available)
    taken: dict[str, int] = {}
    outcomes: list[Outcome] = []
    for demand in demands:
        lacking = _first_lacking(demand, left)
        if lacking is not None:
            outcomes.append(lacking)
            continue
        for sku, quantity in demand.lines:
            left[sku] -= quantity
            taken[sku] = taken.get(sku, 0) + quantity
        outcomes.append(Reserved(demand.order_id))
    return Allocation(tuple(outcomes), taken)


def _first_lacking(demand: Demand, left: Mapping[str, int]) -> Failed | None:
    for sku, quantity in demand.lines:
        units = left.get(sku)
        if units is None:
            return Failed(demand.order_id, Reason.UNKNOWN_SKU, sku, quantity, 0)
        if units < quantity:
            return Failed(demand.order_id, Reason.INSUFFICIENT_STOCK, sku, quantity, units)
    return None
