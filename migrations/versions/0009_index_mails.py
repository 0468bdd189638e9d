"""Find the mails that a mailbox got of late without reading the ledger: each mail that is about to leave asks.

Of mails alone: the ledger of the channel log is written far faster, and no query asks about it.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    """
    CREATE INDEX ledger_mails ON notification.ledger ((lower(user_id COLLATE "C")), sent_at) WHERE channel = 'smtp'
    """,
)


def upgrade() -> None:
    """Build it; a running notification service waits for that."""
    for statement in STATEMENTS:
        op.execute(statement)
