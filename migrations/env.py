"""Alembic's entry: collect the MetaData of all services and run on the connection that `migrations.upgrade` hands over.

Each migration is its own transaction. The version table stands in the schema `public`, where only the owner may look.
"""

from alembic import context

from inventory_service.io.tables import metadata as inventory
from notification_service.io.tables import metadata as notification
from order_service.io.tables import metadata as orders

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=[inventory, orders, notification],
    include_schemas=True,
    version_table_schema="public",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
