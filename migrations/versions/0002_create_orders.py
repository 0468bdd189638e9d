"""Create idempotency keys and the status projection with its offsets.

Column grants: a key's fingerprint, order and event bytes never change once they stand.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "CREATE SCHEMA orders",
    """
    CREATE TABLE orders.idempotency_key (
        user_id text NOT NULL,
        key text NOT NULL,
        fingerprint bytea NOT NULL,
        order_id uuid NOT NULL,
        event bytea NOT NULL,
        acknowledged_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (user_id, key)
    )
    """,
    """
    CREATE TABLE orders.order_status (
        order_id uuid PRIMARY KEY,
        user_id text NOT NULL,
        status text NOT NULL,
        reason text,
        sku text,
        requested integer,
        available integer,
        lines jsonb,
        placed_at timestamptz,
        decided_at timestamptz,
        notified_at timestamptz,
        CONSTRAINT order_status_known CHECK (status IN ('pending', 'reserved', 'failed')),
        CONSTRAINT order_status_reason_iff_failed CHECK ((status = 'failed') = (reason IS NOT NULL)),
        CONSTRAINT order_status_decided_at_iff_decided CHECK ((status = 'pending') = (decided_at IS NULL))
    )
    """,
    "CREATE INDEX order_status_user_id_order_id ON orders.order_status (user_id, order_id DESC)",
    """
    CREATE TABLE orders.projection_offset (
        topic text NOT NULL,
        partition integer NOT NULL,
        next_offset bigint NOT NULL,
        PRIMARY KEY (topic, partition),
        CONSTRAINT projection_offset_ge_0 CHECK (next_offset >= 0)
    )
    """,
    "GRANT USAGE ON SCHEMA orders TO order_rw, reader, checker",
    "GRANT SELECT, INSERT, UPDATE (acknowledged_at) ON orders.idempotency_key TO order_rw",
    "GRANT SELECT, INSERT, UPDATE ON orders.order_status, orders.projection_offset TO order_rw",
    "GRANT SELECT ON ALL TABLES IN SCHEMA orders TO reader, checker",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA orders GRANT SELECT ON TABLES TO reader, checker",
)


def upgrade() -> None:
    """Create all of it."""
    for statement in STATEMENTS:
        op.execute(statement)
