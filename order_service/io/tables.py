"""Tables of order_service: idempotency keys and the status projection. Described here, created by migrations."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData(schema="orders")

idempotency_key = sa.Table(
    "idempotency_key",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),  # of the body
    sa.Column("order_id", sa.Uuid, nullable=False),
    sa.Column("event", sa.LargeBinary, nullable=False),  # the bytes that every retry produces
    sa.Column("acknowledged_at", sa.DateTime(timezone=True)),  # NULL: the broker has not confirmed yet
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
)

order_status = sa.Table(
    "order_status",
    metadata,
    sa.Column("order_id", sa.Uuid, primary_key=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    # The line that lacked stock, in units.
    sa.Column("sku", sa.Text),
    sa.Column("requested", sa.Integer),
    sa.Column("available", sa.Integer),
    # Topics have no order among each other: a notification may be read first, and it names neither of these two.
    sa.Column("lines", pg.JSONB),
    sa.Column("placed_at", sa.DateTime(timezone=True)),
    sa.Column("decided_at", sa.DateTime(timezone=True)),
    sa.Column("notified_at", sa.DateTime(timezone=True)),
    sa.CheckConstraint("status IN ('pending', 'reserved', 'failed')", name="order_status_known"),
    sa.CheckConstraint("(status = 'failed') = (reason IS NOT NULL)", name="order_status_reason_iff_failed"),
    sa.CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name="order_status_decided_at_iff_decided"),
)
sa.Index("order_status_user_id_order_id", order_status.c.user_id, order_status.c.order_id.desc())

projection_offset = sa.Table(
    "projection_offset",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),  # the next to read
    sa.Column("topic_id", sa.Text, nullable=False, server_default=sa.text("''")),  # '': an older version stored it
    sa.CheckConstraint("next_offset >= 0", name="projection_offset_ge_0"),
)
