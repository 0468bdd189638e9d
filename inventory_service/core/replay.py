"""Say which records of a batch decide, which repeat an answer, and which are silent. Pure.

The first record that brings an order owns it: its coordinate stands in the decision row, and only that record emits
the event, now and on every replay. Any other record of the same order moves its offset and says nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from common.events.orders import OrderCreated
from onceloop.records import Partition


class Coordinate(NamedTuple):
    """Where a record stands."""

    partition: Partition
    offset: int


class Arrival(NamedTuple):
    """One order as a record brought it; key and value are the record's."""

    coordinate: Coordinate
    key: bytes | None
    value: bytes
    order: OrderCreated


class Decision(NamedTuple):
    """A decision row: the event's bytes as they were first encoded, and the coordinate that owns them.

    `reason` says why there is no reservation; None: there is one.
    """

    order_id: str
    reason: str | None
    event_id: str
    event: bytes
    owner: Coordinate
    decided_at_ms: int

    @property
    def reserved(self) -> bool:
        """Return True if stock is reserved for the order."""
        return self.reason is None


def undecided(arrivals: Iterable[Arrival], known: Mapping[str, Decision]) -> list[Arrival]:
    """Return the first arrival of each order that has no decision yet, in order of arrival."""
    first: dict[str, Arrival] = {}
    for arrival in arrivals:
        if arrival.order.order_id not in known:
            first.setdefault(arrival.order.order_id, arrival)
    return list(first.values())


def owners(arrivals: Iterable[Arrival], decisions: Mapping[str, Decision]) -> list[tuple[Arrival, Decision]]:
    """Return the arrivals that emit their order's event, in order of arrival: the owner rule."""
    return [
        (arrival, decision)
        for arrival in arrivals
        if (decision := decisions[arrival.order.order_id]).owner == arrival.coordinate
    ]
