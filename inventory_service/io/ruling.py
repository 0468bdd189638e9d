"""Apply the rule of allocation to orders that have no decision yet: demands in, decisions with their events out."""

from collections.abc import Collection, Mapping, Sequence

from inventory_service.core.replay import Arrival
from inventory_service.core.rule import Context, Demand, Need, Rule, check
from inventory_service.core.turns import next_turns
from inventory_service.io.decision_store import NewDecision, Snapshot
from inventory_service.io.outcome_events import OutcomeEvents
from onceloop.records import rows
from onceloop.runtime import Clock


class Ruling:
    """One rule, and how its outcomes become decisions."""

    def __init__(self, rule: Rule, events: OutcomeEvents, clock: Clock) -> None:
        self._rule = rule
        self._asks_held = Need.HELD in rule.NEEDS
        self._events = events
        self._clock = clock

    def customers(self, arrivals: Sequence[Arrival]) -> Collection[str]:
        """Return the customers whose holdings the rule asks for; none if it does not ask."""
        return {arrival.order.user_id for arrival in arrivals} if self._asks_held else ()

    def decide(self, fresh: Sequence[Arrival], snapshot: Snapshot) -> tuple[list[NewDecision], Mapping[str, int]]:
        """Return a decision per order, in their order, and the units that the rule takes.

        Raises ContractError for a rule that does not keep its contract.
        """
        if not fresh:
            return [], {}
        orders = [arrival.order for arrival in fresh]  # by name: a version of the event may add fields
        demands = rows(
            Demand,
            [order.order_id for order in orders],
            [order.user_id for order in orders],
            [order.lines for order in orders],
            [order.placed_at_ms for order in orders],
        )
        allocation = self._rule.allocate(demands, snapshot.available, Context(snapshot.held))
        check(demands, allocation)
        turns = next_turns(fresh, snapshot.turns) if self._asks_held else [None] * len(fresh)
        now_ms = self._clock.time_ns() // 1_000_000
        return self._events.new(fresh, allocation.outcomes, now_ms, turns), allocation.taken
