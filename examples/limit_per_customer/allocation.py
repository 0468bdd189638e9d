"""Decide which orders get stock: at most LIMIT units of a SKU per customer, in order of arrival. Pure.

An order gets as much of each line as limit and stock allow. It fails if nothing of it is left: for a reason of stock if
that is what lacks, for Reason.OTHER if the limit is reached.
"""

from collections.abc import Iterator, Mapping, Sequence

from common.events.inventory import Reason
from common.events.orders import OrderLine
from inventory_service.core.rule import Allocation, Context, Demand, Failed, Holding, Need, Outcome, Reserved

LIMIT = 5
"""Units of a SKU that one customer may hold."""

NEEDS: frozenset[Need] = frozenset({Need.HELD})


def allocate(demands: Sequence[Demand], available: Mapping[str, int], context: Context) -> Allocation:
    """Return who gets what. A SKU that `available` lacks is unknown."""
    left, held = dict(available), dict(context.held)
    outcomes: list[Outcome] = []
    for demand in demands:
        lines = tuple(_granted(demand, left, held))
        if not lines:
            outcomes.append(_refused(demand, left))
            continue
        for sku, quantity in lines:
            left[sku] -= quantity
            holding = Holding(demand.user_id, sku)
            held[holding] = held.get(holding, 0) + quantity
        outcomes.append(Reserved(demand.order_id, lines))
    taken = {sku: units - left[sku] for sku, units in available.items() if left[sku] != units}
    return Allocation(outcomes, taken)


def _granted(demand: Demand, left: Mapping[str, int], held: Mapping[Holding, int]) -> Iterator[OrderLine]:
    for sku, quantity in demand.lines:
        allowed = LIMIT - held.get(Holding(demand.user_id, sku), 0)
        granted = min(quantity, allowed, left.get(sku, 0))
        if granted > 0:
            yield OrderLine(sku, granted)


def _refused(demand: Demand, left: Mapping[str, int]) -> Failed:
    """Return why nothing is left for this order: the first of its lines says."""
    sku, quantity = demand.lines[0]
    if sku not in left:
        return Failed(demand.order_id, Reason.UNKNOWN_SKU, sku, quantity, 0)
    if not left[sku]:
        return Failed(demand.order_id, Reason.INSUFFICIENT_STOCK, sku, quantity, 0)
    return Failed(demand.order_id, Reason.OTHER, sku, quantity, 0)
