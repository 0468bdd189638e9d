"""Our verdict on a change and the registry's own are one: `pipeline schemas check` promises nothing it refuses."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from deploy.schemas import subjects
from tests.schema_changes import BAD, GOOD, Change
from tests.stack import Stack


@dataclass(frozen=True, slots=True)
class Judge:
    client: SchemaRegistryClient

    def accepts(self, change: Change) -> bool:
        subject = f"test-{secrets.token_hex(5)}-value"
        subjects.register(self.client, subject, change.older)
        return self.client.test_compatibility_all_versions(subject, Schema(change.newer, "AVRO"))


def test_registry_says_of_every_change_what_we_say(servers: Stack) -> None:
    changes = [*GOOD, *BAD]
    with (
        SchemaRegistryClient({"url": servers.settings.registry_url, "timeout": 10}) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        verdicts = dict(zip((change.name for change in changes), pool.map(Judge(client).accepts, changes), strict=True))
    assert verdicts == {change.name: not change.rules or change.ours_alone for change in changes}
