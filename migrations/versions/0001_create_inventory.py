"""Create stock, decisions and what guards the worker's start.

Column grants: a worker can bump `replays` and lower `available`, but change no verdict, no event and no stock on hand.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    "CREATE SCHEMA inventory",
    """
    CREATE TABLE inventory.stock (
        sku text PRIMARY KEY,
        on_hand integer NOT NULL,
        available integer NOT NULL,
        CONSTRAINT stock_available_ge_0 CHECK (available >= 0),
        CONSTRAINT stock_on_hand_ge_0 CHECK (on_hand >= 0),
        CONSTRAINT stock_available_le_on_hand CHECK (available <= on_hand)
    )
    """,
    """
    CREATE TABLE inventory.decision (
        order_id uuid PRIMARY KEY,
        verdict smallint NOT NULL,
        reason text,
        event_id uuid NOT NULL,
        event bytea NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        skus text[] NOT NULL,
        qtys integer[] NOT NULL,
        replays integer NOT NULL DEFAULT 0,
        decided_at timestamptz NOT NULL,
        CONSTRAINT decision_verdict_known CHECK (verdict IN (0, 1)),
        CONSTRAINT decision_reason_iff_failed CHECK ((verdict = 1) = (reason IS NULL)),
        CONSTRAINT decision_lines_match CHECK (cardinality(skus) = cardinality(qtys)),
        CONSTRAINT decision_replays_ge_0 CHECK (replays >= 0)
    )
    """,
    """
    CREATE TABLE inventory.start (
        topic text NOT NULL,
        partition integer NOT NULL,
        committed_offset bigint NOT NULL,
        starts integer NOT NULL,
        PRIMARY KEY (topic, partition),
        CONSTRAINT start_starts_ge_1 CHECK (starts >= 1)
    )
    """,
    "CREATE TABLE inventory.input_topic (topic text PRIMARY KEY, topic_id text NOT NULL)",
    """
    CREATE VIEW inventory.reservation_line AS
    SELECT order_id, line.sku, line.qty
    FROM inventory.decision, unnest(skus, qtys) AS line (sku, qty)
    WHERE verdict = 1
    """,
    """
    CREATE VIEW inventory.reservations AS
    SELECT order_id,
        (SELECT string_agg(line.sku || ' x' || line.qty, ', ' ORDER BY line.number)
         FROM unnest(skus, qtys) WITH ORDINALITY AS line (sku, qty, number)) AS lines,
        replays,
        decided_at
    FROM inventory.decision
    WHERE verdict = 1
    """,
    """
    CREATE VIEW inventory.stock_balance AS
    SELECT sku, on_hand, on_hand - available AS reserved, available
    FROM inventory.stock
    """,
    "GRANT USAGE ON SCHEMA inventory TO inventory_rw, stock_admin, reader, checker",
    "GRANT SELECT, UPDATE (available) ON inventory.stock TO inventory_rw",
    "GRANT SELECT, INSERT, UPDATE (replays) ON inventory.decision TO inventory_rw",
    "GRANT SELECT, INSERT, UPDATE ON inventory.start, inventory.input_topic TO inventory_rw",
    "GRANT SELECT, INSERT, UPDATE ON inventory.stock TO stock_admin",
    "GRANT SELECT ON ALL TABLES IN SCHEMA inventory TO reader, checker",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA inventory GRANT SELECT ON TABLES TO reader, checker",
)


def upgrade() -> None:
    """Create all of it."""
    for statement in STATEMENTS:
        op.execute(statement)
