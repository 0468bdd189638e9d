"""The tables as the code describes them are the tables as the migrations make them."""

import sqlalchemy as sa

from deploy.provision import database
from inventory_service.io.tables import metadata as inventory
from notification_service.io.tables import metadata as notification
from order_service.io.tables import metadata as orders
from tests.pipeline import Pipeline

COLUMNS = """
    SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull,
        pg_get_expr(adbin, adrelid)
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid AND relkind = 'r'
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace::regnamespace::text = ANY(:schemas) AND attnum > 0
    ORDER BY 1, 2
"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid)
    FROM pg_constraint
    WHERE connamespace::regnamespace::text = ANY(:schemas) AND contype <> 'n'
    ORDER BY 1, 2
"""
INDEXES = """
    SELECT schemaname, tablename, indexdef FROM pg_indexes WHERE schemaname = ANY(:schemas) ORDER BY 1, 2, 3
"""
SERVICES = (inventory, orders, notification)
SCHEMAS = [str(metadata.schema) for metadata in SERVICES]


def catalogue(connection: sa.Connection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(sa.text(query), {"schemas": SCHEMAS})]


def test_migrated_tables_equal_the_described_ones(pipeline: Pipeline) -> None:
    described = f"{pipeline.settings.database}_described"
    with database.admin_connection(pipeline.settings, "postgres") as connection:
        database.ensure_database(connection, described)
    try:
        with database.admin_connection(pipeline.settings, described) as connection:
            for metadata in SERVICES:
                connection.exec_driver_sql(f"CREATE SCHEMA {metadata.schema}")
                metadata.create_all(connection)
            expected = [catalogue(connection, query) for query in (COLUMNS, CONSTRAINTS, INDEXES)]
    finally:
        with database.admin_connection(pipeline.settings, "postgres") as connection:
            connection.exec_driver_sql(f"DROP DATABASE {described} WITH (FORCE)")
    with pipeline.administer() as connection:
        migrated = [catalogue(connection, query) for query in (COLUMNS, CONSTRAINTS, INDEXES)]
    assert {row[0] for row in expected[0]} >= {"decision", "stock", "idempotency_key", "order_status", "ledger"}
    assert migrated == expected


def test_migrations_leave_nothing_to_anybody_else(pipeline: Pipeline) -> None:
    with pipeline.administer() as connection:
        open_to_all = connection.execute(
            sa.text(
                "SELECT has_schema_privilege('public', 'public', 'USAGE, CREATE')"
                " OR has_database_privilege('public', current_database(), 'CONNECT, CREATE, TEMPORARY')"
            )
        ).scalar_one()
    assert open_to_all is False
