"""Count decisions as they are recorded, so that totals cost nothing to read and never fall.

Counted by the database, in the transaction that records: whichever process writes decisions, and wherever one dies, the
sums are those of the rows. One row per verdict would make every worker wait for every other one's COMMIT; so each
session counts in a shard of its own, more or less. Only the trigger may write there.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    """
    CREATE TABLE inventory.decision_total (
        shard smallint NOT NULL,
        verdict smallint NOT NULL,
        reason text NOT NULL,
        orders bigint NOT NULL,
        PRIMARY KEY (shard, verdict, reason)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE FUNCTION inventory.count_decisions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
    BEGIN
        INSERT INTO inventory.decision_total AS t (shard, verdict, reason, orders)
        SELECT pg_catalog.pg_backend_pid() % 64, verdict, coalesce(reason, 'none'), count(*)
        FROM recorded GROUP BY verdict, reason ORDER BY verdict, reason
        ON CONFLICT (shard, verdict, reason) DO UPDATE SET orders = t.orders + excluded.orders;
        RETURN NULL;
    END
    $$
    """,
    "REVOKE EXECUTE ON FUNCTION inventory.count_decisions() FROM PUBLIC",
    """
    CREATE TRIGGER count_decisions AFTER INSERT ON inventory.decision
    REFERENCING NEW TABLE AS recorded FOR EACH STATEMENT EXECUTE FUNCTION inventory.count_decisions()
    """,
    # The trigger's lock keeps writers out until this has committed: no decision is missed or counted twice.
    """
    INSERT INTO inventory.decision_total (shard, verdict, reason, orders)
    SELECT 0, verdict, coalesce(reason, 'none'), count(*) FROM inventory.decision GROUP BY verdict, reason
    """,
)


def upgrade() -> None:
    """Create all of it; `reader` and `checker` may read it by the schema's default privileges."""
    for statement in STATEMENTS:
        op.execute(statement)
