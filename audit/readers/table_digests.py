"""What stands for the rows of a table, bucket by bucket, as PostgreSQL makes it in one pass.

A row's hash covers all its columns and is 64 bits; those of a bucket are combined by XOR and counted. It finds what
changed, by accident or by hand; it is no seal against an attacker who computes collisions.
"""

from collections.abc import Mapping
from typing import LiteralString

KEYS_TABLE = "orders.idempotency_key"
ORDER_TABLES = frozenset({"inventory.decision", "orders.order_status", "notification.ledger"})

Digests = Mapping[tuple[str, str], tuple[int, int]]
"""How many rows a table has of a bucket, and what stands for them."""

KEY_DIGESTS: LiteralString = """
    SELECT 'orders.idempotency_key', substring(order_id::text FOR %(digits)s), count(*),
        bit_xor(hash_record_extended(t, 0))
    FROM orders.idempotency_key AS t GROUP BY 2
"""
ORDER_DIGESTS: LiteralString = """
    SELECT 'inventory.decision', substring(order_id::text FOR %(digits)s), count(*),
        bit_xor(hash_record_extended(t, 0))
    FROM inventory.decision AS t GROUP BY 2
    UNION ALL
    SELECT 'orders.order_status', substring(order_id::text FOR %(digits)s), count(*),
        bit_xor(hash_record_extended(t, 0))
    FROM orders.order_status AS t GROUP BY 2
    UNION ALL
    SELECT 'notification.ledger', substring(order_id::text FOR %(digits)s), count(*),
        bit_xor(hash_record_extended(t, 0))
    FROM notification.ledger AS t GROUP BY 2
"""


ORDERS_SPAN: LiteralString = "SELECT count(*), min(order_id::text), max(order_id::text) FROM inventory.decision"
DIGITS = range(4, 14)
"""How many leading characters of an order id may make a bucket: from weeks to 16 ms, where ids begin with the time."""
BUCKETS_MIN = 2000
ORDERS_PER_BUCKET = 100


def bucket_of(order_id: str, digits: int) -> str:
    """Return the bucket of an order."""
    return order_id[:digits]


def digits_for(orders: int, first: str, last: str) -> int:
    """Return how many characters make buckets that are small, yet not many more than there are orders to share them.

    `first` and `last`: the lowest and the highest order id.
    """
    most = BUCKETS_MIN + orders // ORDERS_PER_BUCKET
    return max((digits for digits in DIGITS if _number(last[:digits]) - _number(first[:digits]) < most), default=4)


def _number(text: str) -> int:
    return int(text.replace("-", "") or "0", 16)
