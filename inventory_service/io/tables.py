"""Tables of inventory_service: stock, decisions, progress, and what guards a start. Created by migrations.

Described here; a test compares both.

Constraints carry the guarantee: the primary key of `decision` admits one decision per order, `stock_available_ge_0`
forbids overselling. There are no foreign keys: they cost more than half of the throughput.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData(schema="inventory")

stock = sa.Table(
    "stock",
    metadata,
    sa.Column("sku", sa.Text, primary_key=True),
    sa.Column("on_hand", sa.Integer, nullable=False),  # changes by restocking only
    sa.Column("available", sa.Integer, nullable=False),  # on_hand less what is reserved
    sa.CheckConstraint("available >= 0", name="stock_available_ge_0"),
    sa.CheckConstraint("on_hand >= 0", name="stock_on_hand_ge_0"),
    sa.CheckConstraint("available <= on_hand", name="stock_available_le_on_hand"),
)

decision = sa.Table(
    "decision",
    metadata,
    sa.Column("order_id", sa.Uuid, primary_key=True),
    sa.Column("verdict", sa.SmallInteger, nullable=False),  # 1 reserved, 0 failed
    sa.Column("reason", sa.Text),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("event", sa.LargeBinary, nullable=False),  # the bytes that go out, now and on every replay
    # The owner coordinate: the record that first brought this order; only it emits the event.
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("skus", pg.ARRAY(sa.Text), nullable=False),  # what is held; of a failed order what it asked for
    sa.Column("qtys", pg.ARRAY(sa.Integer), nullable=False),
    sa.Column("replays", sa.Integer, nullable=False, server_default=sa.text("0")),
    # Bound by the worker, never by the database: the event's time header follows from it.
    sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
    # Only where the rule asks what customers hold: whose the order is, and its number among those of the customer.
    sa.Column("user_id", sa.Text),
    sa.Column("turn", sa.Integer),
    sa.CheckConstraint("verdict IN (0, 1)", name="decision_verdict_known"),
    sa.CheckConstraint("(verdict = 1) = (reason IS NULL)", name="decision_reason_iff_failed"),
    sa.CheckConstraint("cardinality(skus) = cardinality(qtys)", name="decision_lines_match"),
    sa.CheckConstraint("replays >= 0", name="decision_replays_ge_0"),
    sa.CheckConstraint("turn IS NULL OR user_id IS NOT NULL", name="decision_turn_has_user"),
    # One decision of a customer after the other. Rows without a customer are not in it: they cost nothing.
    sa.Index("decision_turn", "user_id", "turn", unique=True, postgresql_where=sa.text("user_id IS NOT NULL")),
)

decision_total = sa.Table(
    "decision_total",
    metadata,
    # Counted by a trigger, which alone may write here. Only the sum over all shards means anything.
    sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("verdict", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, primary_key=True),  # 'none' of a reservation
    sa.Column("orders", sa.BigInteger, nullable=False),
)

start = sa.Table(
    "start",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("committed_offset", sa.BigInteger, nullable=False),
    sa.Column("starts", sa.Integer, nullable=False),  # how many at this very offset
    sa.CheckConstraint("starts >= 1", name="start_starts_ge_1"),
)

progress = sa.Table(
    "progress",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("offset", sa.BigInteger, nullable=False),  # all below is answered: committed in Kafka
)

input_topic = sa.Table(
    "input_topic",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("topic_id", sa.Text, nullable=False),  # a re-created topic repeats coordinates under another id
)
