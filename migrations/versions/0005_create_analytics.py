"""Create what Kafka Connect copies into: outcomes and minutes, for reports.

The sink writes whole rows at least once. Outcomes never change, so whichever copy comes last is as good as the first.
A minute's total does change: without the trigger a worker that was frozen in the middle of a batch, and replaced, could
put an old total over a newer one when it wakes, and nothing would ever correct it. So a lower revision changes nothing.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    "CREATE SCHEMA analytics",
    """
    CREATE TABLE analytics.reserved (
        order_id uuid PRIMARY KEY,
        event_id uuid NOT NULL,
        user_id text NOT NULL,
        placed_at timestamptz NOT NULL,
        decided_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE analytics.failed (
        order_id uuid PRIMARY KEY,
        event_id uuid NOT NULL,
        user_id text NOT NULL,
        reason text NOT NULL,
        sku text NOT NULL,
        requested integer NOT NULL,
        available integer NOT NULL,
        placed_at timestamptz NOT NULL,
        decided_at timestamptz NOT NULL
    )
    """,
    """
    CREATE VIEW analytics.outcome AS
    SELECT order_id, user_id, 'reserved' AS outcome, NULL AS reason, placed_at, decided_at FROM analytics.reserved
    UNION ALL
    SELECT order_id, user_id, 'failed', reason, placed_at, decided_at FROM analytics.failed
    """,
    """
    CREATE TABLE analytics.order_volume (
        minute timestamptz PRIMARY KEY,
        orders bigint NOT NULL,
        reserved bigint NOT NULL,
        failed bigint NOT NULL,
        units bigint NOT NULL,
        late bigint NOT NULL,
        revision bigint NOT NULL
    )
    """,
    """
    CREATE FUNCTION analytics.keep_newer_volume() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RETURN OLD;
    END
    $$
    """,
    """
    CREATE TRIGGER keep_newer_volume BEFORE UPDATE ON analytics.order_volume
    FOR EACH ROW WHEN (new.revision < old.revision) EXECUTE FUNCTION analytics.keep_newer_volume()
    """,
    "GRANT USAGE ON SCHEMA analytics TO connect_rw, reader, checker",
    "GRANT SELECT, INSERT, UPDATE ON analytics.reserved, analytics.failed, analytics.order_volume TO connect_rw",
    "GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO reader, checker",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA analytics GRANT SELECT ON TABLES TO reader, checker",
)


def upgrade() -> None:
    """Create all of it."""
    for statement in STATEMENTS:
        op.execute(statement)
