"""Table of notification_service: who was notified of what, by which channel. Described here, created by migrations."""

import sqlalchemy as sa

metadata = sa.MetaData(schema="notification")

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("order_id", sa.Uuid, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("channel", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Uuid, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # claimed: about to be sent, or sent and not yet marked
    sa.Column("message_id", sa.Text, nullable=False),  # deterministic: a repeated mail can be recognised
    sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    sa.Column("sent_at", sa.DateTime(timezone=True)),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("1")),
    sa.CheckConstraint("state IN ('claimed', 'sent')", name="ledger_state_known"),
    sa.CheckConstraint("(state = 'sent') = (sent_at IS NOT NULL)", name="ledger_sent_at_iff_sent"),
    sa.CheckConstraint("attempts >= 1", name="ledger_attempts_ge_1"),
)

sa.Index(
    "ledger_mails",
    sa.func.lower(ledger.c.user_id.collate("C")),
    ledger.c.sent_at,
    postgresql_where=ledger.c.channel == sa.literal_column("'smtp'"),
)
