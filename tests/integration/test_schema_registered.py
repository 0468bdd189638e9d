"""`pipeline schemas` with a registry at hand: what is registered counts, whatever registered it."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from typer.testing import CliRunner

from common.events.schema_versions import versions
from common.topics import EVENT_TOPICS, NOTIFICATION_SENT, Topic
from deploy.cli.main import app
from deploy.schemas.registered import compared
from deploy.schemas.subjects import held, register
from onceloop.errors import ExitCode
from tests.stack import Stack

PACKAGED = versions("NotificationSent")


@pytest.fixture
def client(servers: Stack) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": servers.settings.registry_url, "timeout": 5}) as client:
        yield client


@pytest.fixture
def topic() -> Topic:
    """A topic with a subject of its own."""
    return replace(NOTIFICATION_SENT, name=f"test-{secrets.token_hex(5)}")


def with_field(**field: object) -> str:
    schema = json.loads(PACKAGED[-1].text)
    schema["fields"].append(field)
    return json.dumps(schema)


def findings(client: SchemaRegistryClient, topic: Topic) -> list[str]:
    return [str(finding.rule) for finding in compared(topic, PACKAGED, held(client, topic.subject, PACKAGED)).findings]


def test_schema_that_is_not_registered_yet_is_no_fault(client: SchemaRegistryClient, topic: Topic) -> None:
    assert findings(client, topic) == []


def test_subject_that_is_held_to_no_rule_is_found(client: SchemaRegistryClient, topic: Topic) -> None:
    client.register_schema(topic.subject, Schema(PACKAGED[-1].text, "AVRO"))
    assert findings(client, topic) == ["UNBOUND_SUBJECT"]
    register(client, topic.subject, PACKAGED[-1].text)
    assert findings(client, topic) == []


def test_version_of_another_release_counts(client: SchemaRegistryClient, topic: Topic) -> None:
    register(client, topic.subject, with_field(name="language", type="string", default="en"))
    assert findings(client, topic) == []
    assert compared(topic, PACKAGED, held(client, topic.subject, PACKAGED)).others == 1


def test_break_with_a_version_of_another_release_is_named(client: SchemaRegistryClient, topic: Topic) -> None:
    register(client, topic.subject, with_field(name="language", type="string"))
    assert findings(client, topic) == ["READER_FIELD_MISSING_DEFAULT_VALUE"]


def test_command_registers_lists_and_checks(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_REGISTRY_URL", servers.settings.registry_url)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["schemas", *arguments])
        return result.exit_code, result.stdout

    code, output = run("register", "--json")
    assert code == 0
    ids = json.loads(output)["ids"]
    assert list(ids) == [topic.subject for topic in EVENT_TOPICS]
    code, output = run("list", "--json")
    assert {row["subject"]: list(row["versions"].values())[-1] for row in json.loads(output)} == ids
    assert run("check", "--json") == (0, "[]\n")
    monkeypatch.setenv("PIPELINE_REGISTRY_URL", "http://127.0.0.1:9")
    assert run("check")[0] == ExitCode.UNAVAILABLE
    assert run("check", "--offline")[0] == 0
