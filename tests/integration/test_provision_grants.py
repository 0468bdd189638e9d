"""What each role may and may not do, tried as that role."""

import pytest
import sqlalchemy as sa

from tests.pipeline import Pipeline

DENIED = "42501"
READ_ONLY = "25006"

ALLOWED = [
    ("inventory_rw", "SELECT sku, available FROM inventory.stock ORDER BY sku FOR UPDATE"),
    ("inventory_rw", "UPDATE inventory.stock SET available = available - 1 WHERE sku = 'none'"),
    ("inventory_rw", "UPDATE inventory.decision SET replays = replays + 1"),
    ("inventory_rw", "INSERT INTO inventory.input_topic VALUES ('t', 'id') ON CONFLICT (topic) DO NOTHING"),
    ("inventory_rw", "INSERT INTO inventory.start VALUES ('t', 0, 5, 1)"),
    ("inventory_rw", "UPDATE inventory.start SET starts = starts + 1"),
    ("inventory_rw", "INSERT INTO inventory.progress VALUES ('t', 0, 5)"),
    ("order_rw", "UPDATE orders.idempotency_key SET acknowledged_at = now()"),
    ("order_rw", "SELECT * FROM orders.projection_offset FOR UPDATE"),
    ("order_rw", "UPDATE orders.order_status SET notified_at = now()"),
    ("notification_rw", "UPDATE notification.ledger SET state = 'sent', sent_at = now()"),
    ("notification_rw", "UPDATE notification.ledger SET attempts = attempts + 1, claimed_at = now()"),
    ("connect_rw", "INSERT INTO analytics.order_volume VALUES (now(), 1, 1, 0, 1, 0, 1)"),
    ("connect_rw", "UPDATE analytics.order_volume SET orders = 2, revision = 2"),
    ("stock_admin", "INSERT INTO inventory.stock VALUES ('new', 1, 1)"),
    ("stock_admin", "UPDATE inventory.stock SET on_hand = on_hand + 1, available = available + 1"),
    ("reader", "SELECT * FROM reservations, reservation_line, stock_balance, decision, order_status, ledger"),
    ("checker", "SELECT * FROM decision, idempotency_key, projection_offset, ledger, start, progress, input_topic"),
    ("reader", "SELECT * FROM analytics.outcome, analytics.order_volume"),
    ("checker", "SELECT * FROM analytics.reserved, analytics.failed, analytics.order_volume"),
]
REFUSED = [
    ("inventory_rw", "UPDATE inventory.decision SET verdict = 0"),
    ("inventory_rw", "UPDATE inventory.decision SET event = ''"),
    ("inventory_rw", 'UPDATE inventory.decision SET "offset" = 0'),
    ("inventory_rw", "UPDATE inventory.stock SET on_hand = on_hand + 1"),
    ("inventory_rw", "INSERT INTO inventory.stock VALUES ('new', 1, 1)"),
    ("inventory_rw", "DELETE FROM inventory.decision"),
    ("inventory_rw", "TRUNCATE inventory.decision"),
    ("inventory_rw", "SELECT * FROM orders.order_status"),
    ("order_rw", "SELECT * FROM inventory.stock"),
    ("order_rw", "SELECT * FROM inventory.reservations"),
    ("order_rw", "UPDATE orders.idempotency_key SET fingerprint = ''"),
    ("order_rw", "UPDATE orders.idempotency_key SET event = ''"),
    ("order_rw", "DELETE FROM orders.idempotency_key"),
    ("notification_rw", "UPDATE notification.ledger SET message_id = ''"),
    ("notification_rw", "UPDATE notification.ledger SET user_id = ''"),
    ("notification_rw", "DELETE FROM notification.ledger"),
    ("notification_rw", "SELECT * FROM inventory.decision"),
    ("connect_rw", "DELETE FROM analytics.order_volume"),
    ("connect_rw", "ALTER TABLE analytics.reserved ADD COLUMN mine int"),
    ("connect_rw", "SELECT * FROM inventory.decision"),
    ("connect_rw", "SELECT * FROM notification.ledger"),
    ("stock_admin", "UPDATE inventory.decision SET replays = 0"),
    ("stock_admin", "DELETE FROM inventory.stock"),
    ("stock_admin", "SELECT * FROM orders.order_status"),
    ("inventory_rw", "CREATE TABLE public.mine (id int)"),
    ("order_rw", "CREATE SCHEMA mine"),
    ("reader", "SET default_transaction_read_only = off; SELECT * FROM public.alembic_version"),
    ("reader", "SET TRANSACTION READ WRITE; UPDATE inventory.stock SET available = 0"),
    ("checker", "SET TRANSACTION READ WRITE; DELETE FROM inventory.decision"),
    ("order_rw", "SET ROLE migrator"),
]


def sqlstate(pipeline: Pipeline, role: str, statement: str) -> str | None:
    """Return the SQLSTATE with which the server refuses, or None."""
    try:
        with pipeline.connect(role) as connection:
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        return getattr(error.orig, "sqlstate", "no SQLSTATE")
    return None


def test_each_role_may_do_its_work(pipeline: Pipeline) -> None:
    refused = {
        (role, statement): state for role, statement in ALLOWED if (state := sqlstate(pipeline, role, statement))
    }
    assert refused == {}


def test_no_role_may_do_more_than_its_work(pipeline: Pipeline) -> None:
    states = {(role, statement): sqlstate(pipeline, role, statement) for role, statement in REFUSED}
    assert states == dict.fromkeys(states, DENIED)


@pytest.mark.parametrize("role", ["reader", "checker"])
def test_a_reader_writes_nothing_even_where_a_grant_would_let_it(pipeline: Pipeline, role: str) -> None:
    with pipeline.administer() as connection:
        connection.exec_driver_sql(f"GRANT UPDATE ON inventory.stock TO {role}")
    assert sqlstate(pipeline, role, "UPDATE inventory.stock SET available = 0") == READ_ONLY


def test_a_service_session_is_bounded_in_time(pipeline: Pipeline) -> None:
    with pipeline.connect("inventory_rw") as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("statement_timeout", "lock_timeout", "transaction_timeout")
        }
    assert shown == {"statement_timeout": "5s", "lock_timeout": "2s", "transaction_timeout": "10s"}
