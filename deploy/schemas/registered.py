"""Hold the packaged schemas against a registry: the rule of each subject, its versions, its own verdict."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from common.config import RegistrySettings
from common.events.schema_versions import PACKAGED, SchemaVersion, fingerprint, versions
from common.topics import EVENT_TOPICS, Topic
from deploy.schemas.compatibility import breaks
from deploy.schemas.offline import Finding
from deploy.schemas.subjects import COMPATIBILITY, Held, held
from deploy.schemas.vendor_client import registry


@dataclass(frozen=True, slots=True)
class Registered:
    """One subject, compared. `others`: how many of its versions this checkout does not have."""

    topic: Topic
    held: Held
    others: int
    findings: tuple[Finding, ...]


def compare(settings: RegistrySettings, schemas: Traversable = PACKAGED) -> tuple[Registered, ...]:
    """Compare every event topic's subject; nothing changes. Raises Busy while the registry is away."""
    with registry(settings) as client:
        return tuple(
            compared(topic, found, held(client, topic.subject, found))
            for topic in EVENT_TOPICS
            if (found := versions(str(topic.value), schemas))
        )


def compared(topic: Topic, packaged: tuple[SchemaVersion, ...], found: Held) -> Registered:
    """Compare what is packaged of a topic's event with what its subject holds."""
    own = {version.sha256 for version in packaged}
    others = [text for text in found.texts if fingerprint(text) not in own]
    findings = [Finding(packaged[0].event, what, rule) for what, rule in _findings(packaged[-1], found, others)]
    return Registered(topic, found, len(others), tuple(findings))


def _findings(newest: SchemaVersion, found: Held, others: list[str]) -> Iterator[tuple[str, str]]:
    if found.texts and found.compatibility != COMPATIBILITY:
        yield (
            f"its subject is bound to {found.compatibility or 'no rule'} instead of {COMPATIBILITY}",
            "UNBOUND_SUBJECT",
        )
    broken = [(text, each) for text in others for each in breaks(text, newest.text)]
    for _, each in broken:
        yield f"a registered version that is not here -> v{newest.number}: {each.what}", each.rule
    if not broken and not found.accepts:
        yield f"the registry refuses v{newest.number}, and the rules here do not say why", "REGISTRY_REFUSES"
