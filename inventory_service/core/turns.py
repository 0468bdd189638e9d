"""Number the decisions of each customer, so that none rests on a history that has grown meanwhile. Pure.

Only where the rule asks what customers hold. The database admits each number once per customer.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from inventory_service.core.replay import Arrival


class Turn(NamedTuple):
    """A decision's place among those of its customer, from 1 on."""

    user_id: str
    number: int


def next_turns(arrivals: Iterable[Arrival], highest: Mapping[str, int]) -> Iterator[Turn]:
    """Yield the turn of each order that is decided now, in order of arrival. `highest`: the last turn per customer."""
    taken = dict(highest)
    for arrival in arrivals:
        user_id = arrival.order.user_id
        taken[user_id] = taken.get(user_id, 0) + 1
        yield Turn(user_id, taken[user_id])
