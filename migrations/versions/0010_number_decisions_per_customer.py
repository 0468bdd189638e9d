"""Let a rule of allocation ask what a customer holds: decisions name their customer, and are numbered per customer.

Empty as long as the rule does not ask. The index holds only rows with a customer, so other rows cost it nothing; its
uniqueness is the guard that two decisions of one customer never rest on the same history.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS = (
    """
    ALTER TABLE inventory.decision ADD COLUMN user_id text, ADD COLUMN turn integer,
        ADD CONSTRAINT decision_turn_has_user CHECK (turn IS NULL OR user_id IS NOT NULL)
    """,
    "CREATE UNIQUE INDEX decision_turn ON inventory.decision (user_id, turn) WHERE user_id IS NOT NULL",
)


def upgrade() -> None:
    """Add both; workers wait until the table was read through once."""
    for statement in STATEMENTS:
        op.execute(statement)
