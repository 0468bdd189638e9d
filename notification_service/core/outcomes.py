"""The outcome of an order as this service reads it, and what makes one impossible. Pure."""

from uuid import UUID

from common.events import orders
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.orders import OrderCreated
from onceloop.errors import Undecodable

Outcome = InventoryReserved | InventoryFailed


def complaint(outcome: Outcome) -> str:
    """Return what makes this outcome impossible, naming the field, or an empty text if it may be.

    An outcome repeats its order, so the order's rules hold; the ledger can store whatever passes here.
    """
    try:
        UUID(outcome.event_id)
    except ValueError:
        return "event_id is not a UUID"
    return orders.complaint(OrderCreated(outcome.order_id, outcome.user_id, outcome.lines, outcome.placed_at_ms))


def read(codec: Codec, kind: type[Outcome], value: bytes | None) -> Outcome:
    """Return the outcome that these bytes hold. Raises Undecodable, or Busy while its schema cannot be had."""
    outcome = codec.decode(kind, value)
    if found := complaint(outcome):
        raise Undecodable("content", found)
    return outcome
