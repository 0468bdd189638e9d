"""Describe all topics as an AsyncAPI 3 document, from the table of topics and the newest schemas. Pure.

`docs/asyncapi.yaml` is this document, committed; a test compares the two. The order service serves and shows it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from common.events.schema_versions import newest, versions
from common.topics import ALL_TOPICS, DAY_MS, Topic

Node = dict[str, Any]

SPECIFICATION = "3.0.0"
API_VERSION = "1.0.0"
"""Of the description, by SemVer: not the version of the code behind it."""
KAFKA_BINDING = "0.5.0"
AVRO = "application/vnd.apache.avro;version=1.9.0"
DEAD_LETTER = "DeadLetter"

_DESCRIPTION = (
    "Orders, their outcomes, and the notifications sent. Values are Avro behind the common five-byte frame (magic byte"
    " 0, schema id in four bytes, big endian); the schema with that id stands in the registry. Read with isolation"
    " level read_committed: some writers use transactions."
)
_CE_HEADERS = {
    "ce_specversion": "Always 1.0: CloudEvents, binary mode.",
    "ce_id": "What readers de-duplicate by: equal for records that repeat one event.",
    "ce_type": "The kind of event.",
    "ce_source": "The service that says so.",
    "ce_time": "RFC 3339, UTC, with milliseconds.",
    "content-type": "application/avro",
}
_ORIGIN_HEADERS = {
    "origin_topic": "Topic of the record that this event answers, if it answers one.",
    "origin_partition": "Partition of that record.",
    "origin_offset": "Offset of that record.",
}
DLQ_HEADERS = {
    "dlq_version": "Version of these headers.",
    "dlq_reason": "Why the record will never be an event.",
    "dlq_error_class": "The kind of reason: frame, magic, schema, avro, content, database, crash or recipient_*.",
    "dlq_topic": "Topic that the record came from.",
    "dlq_partition": "Partition there.",
    "dlq_offset": "Offset there.",
}


@cache
def document() -> Node:
    """Return the description. All callers share it: none may change it."""
    return {
        "asyncapi": SPECIFICATION,
        "info": {
            "title": "Order pipeline",
            "version": API_VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "servers": {
            "local": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The stack of `pipeline up`. A namespace, if one is set, stands before every topic.",
            }
        },
        "channels": {topic.name: _channel(topic) for topic in ALL_TOPICS},
        "operations": {name: operation for topic in ALL_TOPICS for name, operation in _operations(topic)},
        "components": {"messages": {_message_name(topic): _message(topic) for topic in ALL_TOPICS}},
    }


def as_json() -> str:
    """Return the description as JSON text."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def as_yaml() -> str:
    """Return the description as YAML text, the same each time."""
    return "# Made by `pipeline schemas asyncapi` from common/topics.py and common/events/schemas/.\n" + "".join(
        f"{line}\n" for line in _yaml(document())
    )


def _channel(topic: Topic) -> Node:
    return {
        "address": topic.name,
        "description": _channel_described(topic),
        "messages": {_message_name(topic): {"$ref": f"#/components/messages/{_message_name(topic)}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": topic.message_bytes_max,
                },
                "bindingVersion": KAFKA_BINDING,
            }
        },
    }


def _channel_described(topic: Topic) -> str:
    kept = f"Key: {topic.key}. Kept for {topic.retention_ms // DAY_MS} days."
    if topic.dead_letters_of is not None:
        return f"What the group {topic.dead_letters_of.name} will never be able to read, as it came. {kept}"
    return kept


def _operations(topic: Topic) -> Iterator[tuple[str, Node]]:
    channel = {"channel": {"$ref": f"#/channels/{topic.name}"}}
    for writer in topic.writers:
        described = {"title": f"{writer}: {topic.name}", "summary": f"{writer} writes {topic.name}"}
        yield f"{writer}.sends.{topic.name}", {"action": "send", **channel, **described}
    for group in topic.readers:
        yield (
            f"{group.name}.receives.{topic.name}",
            {
                "action": "receive",
                **channel,
                "title": f"{group.name}: {topic.name}",
                "summary": f"{group.name} reads {topic.name}",
                "bindings": {
                    "kafka": {"groupId": {"type": "string", "const": group.name}, "bindingVersion": KAFKA_BINDING}
                },
            },
        )


def _message_name(topic: Topic) -> str:
    return topic.value if topic.value is not None else DEAD_LETTER


def _message(topic: Topic) -> Node:
    if topic.value is None:
        return {
            "title": "Dead letter",
            "summary": "A record that could not be read: key, value and headers as they came, and why.",
            "contentType": "application/octet-stream",
            "headers": _headers(DLQ_HEADERS),
        }
    schema = json.loads(newest(topic.value).text)
    return {
        "title": topic.value,
        "summary": schema.get("doc", ""),
        "contentType": "application/avro",
        "headers": _headers(_CE_HEADERS, optional=_ORIGIN_HEADERS),
        "payload": {"schemaFormat": AVRO, "schema": schema},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": topic.key},
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "schemaLookupStrategy": "TopicNameStrategy",
                "bindingVersion": KAFKA_BINDING,
            }
        },
        "x-subject": topic.subject,
        "x-versions": [version.number for version in versions(topic.value)],
    }


def _headers(required: dict[str, str], *, optional: Mapping[str, str] = MappingProxyType({})) -> Node:
    described = {**required, **optional}
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, text in described.items()},
        "required": list(required),
    }


_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def _yaml(node: Any, indent: str = "") -> Iterator[str]:
    """Write block style with JSON's scalars, which are YAML's too; words stand without quotes."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _entry(f"{indent}{_scalar(name)}:", value, f"{indent}  ")
    else:
        for value in node:
            lines = list(_yaml(value, f"{indent}  ")) if isinstance(value, dict | list) and value else []
            yield f"{indent}- {lines[0].lstrip()}" if lines else f"{indent}- {_scalar(value)}"
            yield from lines[1:]


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from _yaml(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    return json.dumps(value, ensure_ascii=False)
