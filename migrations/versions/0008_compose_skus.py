"""Move what is available under a SKU that is not in Unicode's form NFC to the same SKU in it, where orders look now.

What is reserved stays under the old spelling: decisions and events name it so, and the books must balance by it.
The lock keeps reservations out until this has committed; taken first, it can wait for no one that waits for us. It must
be this one: a reservation begins with FOR UPDATE, which a weaker lock lets in, and each would wait for the other's row.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    "LOCK TABLE inventory.stock IN EXCLUSIVE MODE",
    """
    INSERT INTO inventory.stock AS s (sku, on_hand, available)
    SELECT normalize(sku, NFC), sum(available)::integer, sum(available)::integer
    FROM inventory.stock WHERE sku IS NOT NFC NORMALIZED GROUP BY 1 ORDER BY 1
    ON CONFLICT (sku) DO UPDATE SET
        on_hand = s.on_hand + excluded.on_hand, available = s.available + excluded.available
    """,
    "UPDATE inventory.stock SET on_hand = on_hand - available, available = 0 WHERE sku IS NOT NFC NORMALIZED",
)


def upgrade() -> None:
    """Move it."""
    for statement in STATEMENTS:
        op.execute(statement)
