"""What a rule of allocation gets, may ask for, and answers. Pure.

The rule itself is the module `allocation`; everything else (locks, replays, offsets, events) knows only what is written
here. docs/howto/change-the-allocation-rule.md leads through a change, docs/adr/0051 gives the reasons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

from common.events.inventory import Reason
from common.events.orders import OrderLine
from onceloop.errors import ContractError


class Demand(NamedTuple):
    """What one order asks for. A SKU is on one line at most, quantities are at least 1."""

    order_id: str
    user_id: str
    lines: tuple[OrderLine, ...]
    placed_at_ms: int
    """When the customer placed the order: milliseconds since the epoch, UTC. Orders arrive in another order."""


class Reserved(NamedTuple):
    """These lines are held, at least one: lines of the demand, each with its quantity or a smaller one."""

    order_id: str
    lines: tuple[OrderLine, ...]


class Failed(NamedTuple):
    """Nothing is held: `reason`, and the line that decided it; what it asked for and could have had, in units."""

    order_id: str
    reason: Reason
    sku: str
    requested: int
    available: int


Outcome = Reserved | Failed


@dataclass(frozen=True, slots=True)
class Allocation:
    """One outcome per demand, in their order; units taken per SKU, only SKUs that lose some."""

    outcomes: Sequence[Outcome]
    taken: Mapping[str, int]


class Need(Enum):
    """What a rule may ask for beyond demands and stock. Asking costs a query per batch; not asking costs nothing."""

    HELD = auto()
    """What the customers of the batch hold. Orders of one customer are then decided one after the other."""


class Holding(NamedTuple):
    """What one customer holds of one SKU."""

    user_id: str
    sku: str


@dataclass(frozen=True, slots=True)
class Context:
    """What the rule asked for; empty what it did not ask for.

    `held`: units reserved for a customer so far, of every SKU that is not 0. It does not hold what this very batch
    reserves. Exact at the commit for the customers of the demands: if it has changed by then, all is decided again.
    """

    held: Mapping[Holding, int] = field(default_factory=dict)


class Rule(Protocol):
    """The module `allocation`, or what stands for it in a test."""

    NEEDS: frozenset[Need]

    def allocate(self, demands: Sequence[Demand], available: Mapping[str, int], context: Context) -> Allocation:
        """Return who gets what.

        `demands`: new orders in order of arrival, at least one and up to a batch; read them by index or iteration, they
        need not be a list. `available`: units per SKU, of the SKUs that the demands name and that exist. The same input
        has to give the same answer: no clock, no chance, no state between calls.
        """


def check(demands: Sequence[Demand], allocation: Allocation) -> None:
    """Raise ContractError unless the allocation is what `Rule` promises. Call it before anything is recorded.

    A wrong sum would oversell, and no constraint would see it. Whether the stock suffices is PostgreSQL's to say.
    """
    for fault in _faults(demands, allocation):
        raise ContractError(
            f"the rule of allocation is wrong: {fault}",
            cure="mend inventory_service/core/allocation.py; the orders stay where they are",
        )


def _faults(demands: Sequence[Demand], allocation: Allocation) -> Iterator[str]:
    if len(demands) != len(allocation.outcomes):
        yield f"{len(allocation.outcomes)} outcomes for {len(demands)} orders"
    held: dict[str, int] = {}
    for demand, outcome in zip(demands, allocation.outcomes, strict=True):
        if outcome.order_id != demand.order_id:
            yield f"the outcome of order {demand.order_id} names {outcome.order_id}"
        if isinstance(outcome, Failed):
            continue
        if outcome.lines is not demand.lines:
            yield from _line_faults(demand, outcome)
        for sku, quantity in outcome.lines:
            held[sku] = held.get(sku, 0) + quantity
    if held != dict(allocation.taken):
        yield f"{dict(allocation.taken)} are taken, but {held} are held"


def _line_faults(demand: Demand, outcome: Reserved) -> Iterator[str]:
    asked, held = dict(demand.lines), dict(outcome.lines)
    if not outcome.lines:
        yield f"order {demand.order_id} is reserved without a line: that is Failed"
    if len(held) != len(outcome.lines):
        yield f"order {demand.order_id} holds a SKU on two lines"
    for sku, quantity in outcome.lines:
        if not 1 <= quantity <= asked.get(sku, 0):
            yield f"order {demand.order_id} holds {quantity} of {sku}, it asked for {asked.get(sku, 0)}"
