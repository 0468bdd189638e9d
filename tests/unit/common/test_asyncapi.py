"""The description of the topics is what the table of topics and the schemas say, in the file as in the page."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # comes with schemathesis, without types

from common.events import asyncapi, envelope
from common.events.schema_versions import newest
from common.topics import ALL_TOPICS, EVENT_TOPICS, Topic
from onceloop.dead_letter import dead_letter
from onceloop.errors import Undecodable
from onceloop.records import InputRecord, Partition

FILE = Path(__file__).parents[3] / "docs/asyncapi.yaml"
DOCUMENT = asyncapi.document()


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [node["$ref"]] if "$ref" in node else [each for value in node.values() for each in references(value)]
    return [each for value in node for each in references(value)] if isinstance(node, list) else []


def test_file_is_what_topics_and_schemas_say() -> None:
    same = FILE.read_text(encoding="utf-8") == asyncapi.as_yaml()
    assert same, "docs/asyncapi.yaml is stale: run `pipeline schemas asyncapi`, look at the difference, commit it"


def test_other_readers_of_yaml_and_json_get_the_same() -> None:
    assert yaml.safe_load(asyncapi.as_yaml()) == DOCUMENT
    assert json.loads(asyncapi.as_json()) == DOCUMENT


@pytest.mark.parametrize("topic", ALL_TOPICS, ids=lambda topic: topic.name)
def test_topic_is_described_with_who_writes_and_who_reads_it(topic: Topic) -> None:
    assert DOCUMENT["channels"][topic.name]["bindings"]["kafka"]["partitions"] == topic.partitions
    described = {
        (operation["action"], operation["summary"].split()[0])
        for operation in DOCUMENT["operations"].values()
        if operation["channel"]["$ref"] == f"#/channels/{topic.name}"
    }
    assert described == {("send", writer) for writer in topic.writers} | {
        ("receive", group.name) for group in topic.readers
    }


def test_every_event_carries_its_newest_schema() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert {name: message["payload"]["schema"] for name, message in messages.items() if "payload" in message} == {
        str(topic.value): json.loads(newest(str(topic.value)).text) for topic in EVENT_TOPICS
    }


def test_headers_described_are_those_that_are_sent() -> None:
    sent = envelope.headers(event_id="e", event_type="t", source="/s", time_ms=1)
    described = DOCUMENT["components"]["messages"]["OrderCreated"]["headers"]
    assert set(described["required"]) == {name for name, _ in sent}
    origin = envelope.origin_headers(topic="t", partition=0, offset=1)
    assert set(described["properties"]) == {name for name, _ in (*sent, *origin)}
    letter = dead_letter(InputRecord(Partition("t", 0), 0, None, b"?"), Undecodable("avro", "cut"), topic="t.dlq")
    described = DOCUMENT["components"]["messages"][asyncapi.DEAD_LETTER]["headers"]
    assert set(described["required"]) <= {name for name, _ in letter.headers}


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 20
    for reference in found:
        assert resolve(reference)
