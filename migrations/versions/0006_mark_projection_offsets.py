"""Keep beside the projection's offsets which topic they speak of: a topic that is recreated repeats its offsets."""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = ("ALTER TABLE orders.projection_offset ADD COLUMN topic_id text NOT NULL DEFAULT ''",)


def upgrade() -> None:
    """Add the column; rows that stand get their id with the next batch. Grants of the table hold for it."""
    for statement in STATEMENTS:
        op.execute(statement)
