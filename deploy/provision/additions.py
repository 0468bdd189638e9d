"""What an added service needs of the servers: a schema of its own, its topics, first offsets for its group.

Its role is made with the others. Repeating it changes nothing; where the row names more partitions than there are, they
are added. Nothing is taken away from a service that is no longer added: its tables, topics and offsets stay.
"""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from common.kafka.admin import Admin
from deploy.provision.config import ProvisionSettings
from deploy.provision.database import admin_connection
from services.folder import Added


def provision(settings: ProvisionSettings, admin: Admin, added: Sequence[Added]) -> tuple[str, ...]:
    """Make what is missing for these services; return the names of what is new."""
    return tuple(_new(settings, admin, added))


def _new(settings: ProvisionSettings, admin: Admin, added: Sequence[Added]) -> Iterator[str]:
    with admin_connection(settings, settings.database) as connection:
        for each in added:
            if each.schema is not None and _ensure_schema(connection, settings.database, each.schema):
                yield f"schema {each.schema}"
    topics = [topic for each in added for topic in each.topics]
    counts = admin.partitions(topics)
    behind = {topic: topic.partitions for topic in topics if counts.get(topic, topic.partitions) < topic.partitions}
    admin.add_partitions(behind)
    yield from (topic.within(settings.namespace) for topic in behind)
    yield from admin.create_topics(topics, replication=settings.kafka_replication, min_insync=settings.kafka_min_insync)
    offsets = admin.write_first_offsets([topic for each in added for topic in each.inputs])
    yield from (group for group, count in offsets.items() if count)


def _ensure_schema(connection: sa.Connection, database: str, schema: str) -> bool:
    """Make the schema, its role's own, readable by those that look; return True if it is new.

    The names come from a row that admits plain lower-case identifiers only, so they stand in DDL as they are.
    """
    role = f"{schema}_rw"
    known = connection.execute(sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": schema}).first()
    for statement in (
        f"GRANT {role} TO CURRENT_USER",
        f"GRANT CONNECT ON DATABASE {database} TO {role}",
        f"CREATE SCHEMA IF NOT EXISTS {schema} AUTHORIZATION {role}",
        f"ALTER ROLE {role} IN DATABASE {database} SET search_path = {schema}",
        f"GRANT USAGE ON SCHEMA {schema} TO reader, checker",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader, checker",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA {schema} GRANT SELECT ON TABLES TO reader, checker",
    ):
        connection.exec_driver_sql(statement)
    return known is None
