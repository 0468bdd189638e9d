"""What the tables give Prometheus: orders decided, the balance of the stock, the ledger, the projection's positions.

Read by the role `reader`. The balance adds up all decisions, since a sum that the worker kept would repeat its mistakes
and cost it time; one statement is one snapshot, so a balance is never torn by a commit in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from common.postgres.outage import outage_is_busy
from onceloop.records import Partition

_STOCK = sa.text(
    """
    SELECT coalesce(sum(on_hand), 0) AS on_hand, coalesce(sum(available), 0) AS available,
        coalesce(sum(reserved), 0) AS reserved, coalesce(sum(abs(on_hand - available - reserved)), 0) AS imbalance
    FROM (
        SELECT coalesce(s.on_hand, 0) AS on_hand, coalesce(s.available, 0) AS available,
            coalesce(r.units, 0) AS reserved
        FROM inventory.stock s
        FULL JOIN (SELECT sku, sum(qty) AS units FROM inventory.reservation_line GROUP BY sku) r ON r.sku = s.sku
    ) balance
    """
)
_DECIDED = sa.text(
    """
    SELECT CASE verdict WHEN 1 THEN 'reserved' ELSE 'failed' END AS verdict, reason, sum(orders)::bigint AS orders
    FROM inventory.decision_total GROUP BY 1, 2
    """
)
_LEDGER = sa.text(
    """
    SELECT count(*) FILTER (WHERE state = 'sent') AS sent, count(*) FILTER (WHERE state = 'claimed') AS claimed,
        coalesce(extract(epoch FROM now() - min(claimed_at) FILTER (WHERE state = 'claimed')), 0) AS oldest_seconds
    FROM notification.ledger
    """
)
_POSITIONS = sa.text("SELECT topic, partition, next_offset FROM orders.projection_offset")


@dataclass(frozen=True, slots=True)
class Books:
    """Sums over the tables: units of stock, rows of the ledger, orders by verdict and reason."""

    on_hand: int
    available: int
    reserved: int
    imbalance: int
    claimed: int
    sent: int
    oldest_claim_seconds: float
    decided: Mapping[tuple[str, ...], int] = field(default_factory=dict)


def read_books(engine: sa.Engine) -> Books:
    """Add up. Takes time as the tables grow: both are read whole. Raises Busy where the database does not answer."""
    with outage_is_busy(), engine.connect() as connection:
        stock = connection.execute(_STOCK).one()
        ledger = connection.execute(_LEDGER).one()
        decided: dict[tuple[str, ...], int] = {
            (row.verdict, row.reason): row.orders for row in connection.execute(_DECIDED)
        }
    return Books(
        on_hand=int(stock.on_hand),
        available=int(stock.available),
        reserved=int(stock.reserved),
        imbalance=int(stock.imbalance),
        claimed=ledger.claimed,
        sent=ledger.sent,
        oldest_claim_seconds=float(ledger.oldest_seconds),
        decided=decided,
    )


def read_positions(engine: sa.Engine) -> dict[Partition, int]:
    """Return how far the projection is, which keeps its offsets with its data. Raises Busy."""
    with outage_is_busy(), engine.connect() as connection:
        return {Partition(row.topic, row.partition): row.next_offset for row in connection.execute(_POSITIONS)}
