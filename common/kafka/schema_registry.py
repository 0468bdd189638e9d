"""Schemas and their ids: services look up what is packaged with them, provisioning alone registers.

The registry answers within seconds or not at all: `Busy` says so, and whoever asked tries again. After start a service
needs it only for a schema that another writer used; its own are known by then.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from common.config import KafkaSettings
from common.errors import Busy, FatalError, PipelineError, Undecodable
from common.events.codec import Codec, schema_text
from common.topics import EVENT_TOPICS, Topic

COMPATIBILITY = "FULL_TRANSITIVE"
"""A new schema reads what every older one wrote, and the other way round."""

_TIMEOUT_SECONDS = 3


def open_codec(settings: KafkaSettings, topics: Sequence[Topic]) -> Codec:
    """Return a codec that writes the packaged schemas of these topics and reads any registered one.

    Raises PipelineError if a packaged schema is not registered, FatalError (a restart may cure it) if the registry
    does not answer now. The codec raises Undecodable for an id nobody registered, Busy while the registry is away.
    """
    try:
        with _registry(settings) as client:
            ids = {topic.value: _own_id(client, topic) for topic in topics if topic.value is not None}
    except Busy as error:
        raise FatalError(
            f"the schema registry does not answer at {settings.registry_url}: {error}",
            cure="start it, or correct PIPELINE_REGISTRY_URL",
        ) from error

    def writer_schema(schema_id: int) -> str:
        with _registry(settings) as client:
            return _fetch(client, schema_id)

    return Codec(ids, writer_schema)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Subject -> id of its newest schema, and the subjects for which this very call registered one."""

    ids: Mapping[str, int]
    new: tuple[str, ...]


def register_all(settings: KafkaSettings) -> Subjects:
    """Register the newest schema of every event topic; repeating it changes nothing.

    Raises PipelineError that names the subject whose compatibility a schema breaks, Busy if the registry is away.
    """
    ids, new = {}, []
    with _registry(settings) as client:
        for topic in EVENT_TOPICS:
            text = schema_text(str(topic.value))
            if _look_up(client, topic.subject, text) is None:
                new.append(topic.subject)
            ids[topic.subject] = register(client, topic.subject, text)
    return Subjects(ids, tuple(new))


def register(client: SchemaRegistryClient, subject: str, text: str) -> int:
    """Bind the subject to the compatibility rule, then register the schema under it; return its id."""
    try:
        client.set_compatibility(subject, COMPATIBILITY)
        return client.register_schema(subject, Schema(text, "AVRO"))
    except SchemaRegistryError as error:
        if error.http_status_code != HTTPStatus.CONFLICT:
            raise
        raise PipelineError(
            f"the schema of {subject} breaks {COMPATIBILITY}: {error.error_message.rpartition('Exception: ')[2]}",
            cure="give new fields a default, remove only fields that have one, and change no type",
        ) from error


def _own_id(client: SchemaRegistryClient, topic: Topic) -> int:
    found = _look_up(client, topic.subject, schema_text(str(topic.value)))
    if found is None:
        raise PipelineError(
            f"the registry does not know this version's schema of {topic.subject}", cure="run `pipeline provision`"
        )
    return found


def _look_up(client: SchemaRegistryClient, subject: str, text: str) -> int | None:
    """Return the id under which the subject has exactly this schema, or None."""
    try:
        return client.lookup_schema(subject, Schema(text, "AVRO")).schema_id
    except SchemaRegistryError as error:
        if error.http_status_code == HTTPStatus.NOT_FOUND:
            return None
        raise


def _fetch(client: SchemaRegistryClient, schema_id: int) -> str:
    """Return the schema with this id as JSON text."""
    try:
        text = client.get_schema(schema_id).schema_str
    except SchemaRegistryError as error:
        if error.http_status_code != HTTPStatus.NOT_FOUND:
            raise
        raise Undecodable("schema", f"nobody registered schema id {schema_id}") from error
    if text is None:
        raise Undecodable("schema", f"schema id {schema_id} has no text")
    return text


@contextmanager
def _registry(settings: KafkaSettings) -> Iterator[SchemaRegistryClient]:
    """Yield a client; while the registry is away what it raises becomes Busy, any other complaint PipelineError."""
    try:
        with SchemaRegistryClient(
            {"url": settings.registry_url, "timeout": _TIMEOUT_SECONDS, "max.retries": 0}  # whoever asked retries
        ) as client:
            yield client
    except httpx2.TransportError as error:
        raise Busy(f"schema registry: {type(error).__name__}") from error
    except SchemaRegistryError as error:
        if error.http_status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Busy(f"schema registry: HTTP {error.http_status_code}") from error
        raise PipelineError(f"the schema registry refuses: {error}", cure="look at its log") from error
