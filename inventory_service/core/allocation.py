"""Decide which orders get stock. Pure. This is the rule to change: what it may rely on is in the module `rule`.

In order of arrival, all lines of an order or none; `available` never falls below zero. The same orders on the same
stock give the same outcomes.
"""

from collections.abc import Mapping, Sequence

from common.events.inventory import Reason
from inventory_service.core.rule import Allocation, Context, Demand, Failed, Need, Outcome, Reserved

NEEDS: frozenset[Need] = frozenset()


def allocate(demands: Sequence[Demand], available: Mapping[str, int], context: Context) -> Allocation:
    """Return who gets what. A SKU that `available` lacks is unknown."""
    del context  # this rule asks for nothing
    left = dict(available)
    outcomes: list[Outcome] = []
    for demand in demands:
        lacking = _first_lacking(demand, left)
        if lacking is not None:
            outcomes.append(lacking)
            continue
        for sku, quantity in demand.lines:
            left[sku] -= quantity
        outcomes.append(Reserved(demand.order_id, demand.lines))
    taken = {sku: units - left[sku] for sku, units in available.items() if left[sku] != units}
    return Allocation(outcomes, taken)


def _first_lacking(demand: Demand, left: Mapping[str, int]) -> Failed | None:
    for sku, quantity in demand.lines:
        units = left.get(sku)
        if units is None:
            return Failed(demand.order_id, Reason.UNKNOWN_SKU, sku, quantity, 0)
        if units < quantity:
            return Failed(demand.order_id, Reason.INSUFFICIENT_STOCK, sku, quantity, units)
    return None
