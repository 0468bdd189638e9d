"""Create the ledger of notifications.

Column grants: the service marks a row, but recipient, message and Message-ID stay as first written.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    "CREATE SCHEMA notification",
    """
    CREATE TABLE notification.ledger (
        order_id uuid NOT NULL,
        kind text NOT NULL,
        channel text NOT NULL,
        event_id uuid NOT NULL,
        user_id text NOT NULL,
        state text NOT NULL,
        message_id text NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT now(),
        sent_at timestamptz,
        attempts integer NOT NULL DEFAULT 1,
        PRIMARY KEY (order_id, kind, channel),
        CONSTRAINT ledger_state_known CHECK (state IN ('claimed', 'sent')),
        CONSTRAINT ledger_sent_at_iff_sent CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
        CONSTRAINT ledger_attempts_ge_1 CHECK (attempts >= 1)
    )
    """,
    "GRANT USAGE ON SCHEMA notification TO notification_rw, reader, checker",
    "GRANT SELECT, INSERT, UPDATE (state, claimed_at, sent_at, attempts) ON notification.ledger TO notification_rw",
    "GRANT SELECT ON ALL TABLES IN SCHEMA notification TO reader, checker",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA notification GRANT SELECT ON TABLES TO reader, checker",
)


def upgrade() -> None:
    """Create all of it."""
    for statement in STATEMENTS:
        op.execute(statement)
