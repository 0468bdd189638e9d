"""Keep how far the inventory's records are answered, to find out a group whose offsets went back."""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
    CREATE TABLE inventory.progress (
        topic text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        PRIMARY KEY (topic, partition)
    )
    """,
    "GRANT SELECT, INSERT, UPDATE ON inventory.progress TO inventory_rw",
)


def upgrade() -> None:
    """Create all of it; `reader` and `checker` may read it by the schema's default privileges."""
    for statement in STATEMENTS:
        op.execute(statement)
