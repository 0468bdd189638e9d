"""The full client of the registry, for commands that register and compare; services use one that loads less."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from common.config import RegistrySettings
from common.kafka.registry_client import NOTHING_OF_THAT_NAME, TIMEOUT_SECONDS, asked


@contextmanager
def registry(settings: RegistrySettings) -> Iterator[SchemaRegistryClient]:
    """Yield a client; see `common.kafka.registry_client.asked` for what it raises."""

    def build() -> SchemaRegistryClient:
        return SchemaRegistryClient(
            {"url": settings.registry_url, "timeout": TIMEOUT_SECONDS, "max.retries": 0}  # the caller retries
        )

    with asked(settings, build, SchemaRegistryError) as client:
        yield client


def look_up(client: SchemaRegistryClient, subject: str, text: str) -> int | None:
    """Return the id under which the subject has exactly this schema, or None."""
    try:
        return client.lookup_schema(subject, Schema(text, "AVRO")).schema_id
    except SchemaRegistryError as error:
        if error.error_code in NOTHING_OF_THAT_NAME:
            return None
        raise
