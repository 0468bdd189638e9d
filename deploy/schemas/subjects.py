"""Register the packaged schemas, and ask what the registry holds under their subjects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from common.config import RegistrySettings
from common.events.schema_versions import SchemaVersion, versions
from common.kafka.registry_client import NOTHING_OF_THAT_NAME
from common.topics import EVENT_TOPICS
from deploy.schemas.vendor_client import look_up, registry
from onceloop.errors import ReportedError

COMPATIBILITY = "FULL_TRANSITIVE"
"""A new schema reads what every older one wrote, and the other way round."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Subject -> id of its newest schema, and the subjects for which this very call registered one."""

    ids: Mapping[str, int]
    new: tuple[str, ...]


def register_all(settings: RegistrySettings) -> Subjects:
    """Register every packaged version of every event topic, oldest first; repeating it changes nothing.

    Raises ReportedError that names the subject whose compatibility a schema breaks, Busy if the registry is away.
    """
    ids, new = {}, []
    with registry(settings) as client:
        for topic in EVENT_TOPICS:
            for version in versions(str(topic.value)):
                found = look_up(client, topic.subject, version.text)
                if found is None:
                    new.append(topic.subject)
                ids[topic.subject] = register(client, topic.subject, version.text)
    return Subjects(ids, tuple(dict.fromkeys(new)))


def register(client: SchemaRegistryClient, subject: str, text: str) -> int:
    """Bind the subject to the compatibility rule, then register the schema under it; return its id."""
    _bind(client, subject)
    try:
        return client.register_schema(subject, Schema(text, "AVRO"))
    except SchemaRegistryError as error:
        if error.http_status_code != HTTPStatus.CONFLICT:
            raise
        raise ReportedError(
            f"the schema of {subject} breaks {COMPATIBILITY}: {error.error_message.rpartition('Exception: ')[2]}",
            cure="give new fields a default, remove only fields that have one, and change no type",
        ) from error


def _bind(client: SchemaRegistryClient, subject: str) -> None:
    try:
        client.set_compatibility(subject, COMPATIBILITY)
    except SchemaRegistryError as error:
        if error.http_status_code != HTTPStatus.CONFLICT:
            raise
        client.set_compatibility(subject, COMPATIBILITY)  # another process made the same rule just now; it stands


@dataclass(frozen=True, slots=True)
class Held:
    """What the registry holds for one subject. `compatibility`: its own rule; empty where the subject has none."""

    ids: Mapping[int, int | None]
    """Of each packaged version, by number; None: not registered."""
    texts: tuple[str, ...]
    """All its schemas, as the registry writes them, oldest first."""
    compatibility: str
    accepts: bool
    """The registry's own verdict on our newest version; a subject that it does not know takes anything."""


def held(client: SchemaRegistryClient, subject: str, packaged: Sequence[SchemaVersion]) -> Held:
    """Ask the registry about a subject and the versions that we have of its schema; nothing changes."""
    ids = {version.number: look_up(client, subject, version.text) for version in packaged}
    try:
        numbers = client.get_versions(subject)
    except SchemaRegistryError as error:
        if error.error_code not in NOTHING_OF_THAT_NAME:
            raise
        return Held(ids, (), "", accepts=True)
    texts = tuple(str(client.get_version(subject, number).schema.schema_str) for number in numbers)
    accepts = client.test_compatibility_all_versions(subject, Schema(packaged[-1].text, "AVRO"))
    return Held(ids, texts, _compatibility(client, subject), accepts)


def _compatibility(client: SchemaRegistryClient, subject: str) -> str:
    try:
        return str(client.get_compatibility(subject))
    except SchemaRegistryError as error:
        if error.http_status_code != HTTPStatus.NOT_FOUND:
            raise
        return ""
