"""The psycopg connection of a service that decides in PostgreSQL, by its settings."""

from collections.abc import Iterator
from contextlib import contextmanager

from common.config import PostgresSettings
from common.telemetry import RUNTIME
from onceloop.postgres.connection import HotConnection


@contextmanager
def hot_connection(settings: PostgresSettings, *, application: str) -> Iterator[HotConnection]:
    """Yield a connection and close it at the end."""
    connection = HotConnection(
        settings.postgres_url, application=application, password=settings.password, runtime=RUNTIME
    )
    try:
        yield connection
    finally:
        connection.drop()
