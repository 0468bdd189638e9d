"""Schemas and their ids: services look up what is packaged with them, provisioning alone registers.

The registry answers within seconds or not at all: `Busy` says so, and the caller tries again. After start a service
needs it only for a schema that another release used; its own versions, old ones included, are known by then. A start
while the registry is away lives on what it confirmed before (`schema_cache`), and has that confirmed once it is back.
"""

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.config import RegistrySettings, proxy_of
from common.events.codec import Codec
from common.events.schema_versions import fingerprint, newest, versions
from common.kafka.registry_client import registry
from common.kafka.schema_cache import SchemaCache
from common.log import get_logger
from common.topics import Topic
from onceloop.errors import Busy, FatalError, ReportedError, Undecodable

CONFIRM_SECONDS = 5.0
"""Between two looks for a registry that was away at the start."""

log = get_logger()


class UnregisteredError(ReportedError):
    """The registry has no such schema."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the packaged schemas: event -> id of its newest one, id -> text of every version."""

    ids: dict[str, int] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def open_codec(settings: RegistrySettings, topics: Sequence[Topic]) -> Codec:
    """Return a codec that writes the packaged schemas of these topics and reads any registered one.

    Raises ReportedError if a packaged schema is not registered, FatalError (a restart may cure it) if the registry
    does not answer now and did not confirm the schemas lately. The codec raises Undecodable for an id that is
    not registered, Busy while the registry is away.
    """
    events = [topic for topic in topics if topic.value is not None]
    cache = SchemaCache.of(settings)
    try:
        known = _look_up_all(settings, events)
    except Busy as error:
        known = _recalled(cache, settings, events, error)
        threading.Thread(target=_confirm, args=(settings, events, known), name="schemas", daemon=True).start()
    else:
        cache.remember(known.texts)

    def writer_schema(schema_id: int) -> str:
        return known.texts.get(schema_id) or _foreign(settings, cache, schema_id)

    return Codec(known.ids, writer_schema)


def _look_up_all(settings: RegistrySettings, topics: Sequence[Topic]) -> Known:
    known = Known()
    with registry(settings) as client:
        for topic in topics:
            for version in versions(str(topic.value)):
                found = client.schema_id(topic.subject, version.text)
                if found is not None:
                    known.ids[version.event] = found
                    known.texts[found] = version.text
            if found is None:  # the newest one, which this process would write
                raise UnregisteredError(
                    f"the registry does not know this version's schema of {topic.subject}",
                    cure="run `pipeline provision`",
                )
    return known


def _recalled(cache: SchemaCache, settings: RegistrySettings, topics: Sequence[Topic], why: Busy) -> Known:
    """Return what the registry confirmed before. Raises FatalError if the newest schema of a topic is not among it."""
    texts = cache.recall()
    ids_by_schema = {fingerprint(text): schema_id for schema_id, text in texts.items()}
    ids = {str(topic.value): ids_by_schema.get(newest(str(topic.value)).sha256) for topic in topics}
    unknown = [event for event, schema_id in ids.items() if schema_id is None]
    if unknown:
        raise FatalError(
            f"the schema registry does not answer at {settings.registry_address}: {why}",
            cure="start it, or correct PIPELINE_REGISTRY_URL"
            + ("; or name its host in NO_PROXY" if proxy_of(settings.registry_url) else ""),
        ) from why
    log.warning("schemas.recalled", events=list(ids), cause=str(why))
    return Known({event: schema_id for event, schema_id in ids.items() if schema_id is not None}, texts)


def _confirm(settings: RegistrySettings, topics: Sequence[Topic], recalled: Known) -> None:
    """Wait for the registry; end this process in order if it gives our schemas other ids, so that the next one asks.

    A registry that came back without its data hands out the same ids again: further records would name other
    schemas by them.
    """
    waiting = threading.Event()
    while not waiting.wait(CONFIRM_SECONDS):
        try:
            confirmed = _look_up_all(settings, topics).ids == recalled.ids
        except UnregisteredError:
            confirmed = False
        except (Busy, ReportedError):  # away, or something else answers at its address
            continue
        if confirmed:
            log.info("schemas.confirmed", events=list(recalled.ids))
        else:
            log.error("schemas.changed", events=list(recalled.ids), cure="the process ends; the next one asks again")
            os.kill(os.getpid(), signal.SIGTERM)
        return


def _foreign(settings: RegistrySettings, cache: SchemaCache, schema_id: int) -> str:
    """Return the schema of another release: from the registry, or, while it is away, as it answered before."""
    try:
        with registry(settings) as client:
            text = client.schema_text(schema_id)
    except Busy:
        recalled = cache.recall().get(schema_id)
        if recalled is None:
            raise
        return recalled
    if text is None:
        raise Undecodable("schema", f"schema id {schema_id} is not registered")
    cache.remember({schema_id: text})
    return text
