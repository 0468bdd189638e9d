"""The database work of a batch with one order, as the step does it, without Kafka around it."""

from collections.abc import Callable

import psycopg

from inventory_service.io import decision_store
from onceloop import failpoints
from tests.books import new_decision, record


def reserve(order_id: str, sku: str, units: int) -> Callable[[psycopg.Connection], str]:
    """Return work that reads, decides what is not known, records, and returns the id of the order's event."""

    def work(session: psycopg.Connection) -> str:
        snapshot = decision_store.read(session, skus={sku}, order_ids={order_id})
        found = snapshot.known.get(order_id)
        if found is not None:
            record(session, replayed=[order_id])
            return found.event_id
        new = new_decision(order_id=order_id, lines={sku: units})
        failpoints.point("test:decided")
        record(session, [new], taken={sku: units})
        return new.decision.event_id

    return work
