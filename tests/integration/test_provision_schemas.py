"""Schemas on a real registry: compatibility is a rule that a careless change meets before any event does."""

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from common.events.codec import schema_text
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated, OrderLine
from common.kafka import schema_registry
from common.kafka.registry_client import registry
from common.topics import EVENT_TOPICS, NOTIFICATION_SENT, ORDERS_CREATED
from deploy.schemas import subjects
from onceloop.errors import Busy, FatalError, ReportedError, Undecodable
from tests.pipeline import Pipeline

ORDER = OrderCreated(
    order_id="019a0000-0000-7000-8000-000000000001",
    user_id="ada",
    lines=(OrderLine("tea", 2),),
    placed_at_ms=1_700_000_000_000,
)


@pytest.fixture
def client(pipeline: Pipeline) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": pipeline.kafka.registry_url, "timeout": 5}) as client:
        yield client


@pytest.fixture
def subject(client: SchemaRegistryClient) -> Iterator[str]:
    """A subject of its own, holding the schema of OrderCreated."""
    name = f"test-{secrets.token_hex(5)}-value"
    subjects.register(client, name, schema_text("OrderCreated"))
    yield name
    client.delete_subject(name)
    client.delete_subject(name, permanent=True)


def with_field(field: dict[str, object]) -> str:
    schema = json.loads(schema_text("OrderCreated"))
    schema["fields"].append(field)
    return json.dumps(schema)


def test_an_incompatible_schema_is_refused_naming_subject_and_rule(client: SchemaRegistryClient, subject: str) -> None:
    with pytest.raises(ReportedError, match=rf"{subject} breaks FULL_TRANSITIVE") as refusal:
        subjects.register(client, subject, with_field({"name": "channel", "type": "string"}))
    assert "default" in refusal.value.cure
    assert client.get_versions(subject) == [1]


def test_a_field_with_a_default_is_a_new_version(client: SchemaRegistryClient, subject: str) -> None:
    subjects.register(client, subject, with_field({"name": "channel", "type": "string", "default": ""}))
    assert client.get_versions(subject) == [1, 2]


def test_registering_again_changes_nothing(pipeline: Pipeline) -> None:
    first = subjects.register_all(pipeline.kafka)
    second = subjects.register_all(pipeline.kafka)
    assert second == replace(first, new=())
    assert list(first.ids) == [topic.subject for topic in EVENT_TOPICS]


def test_two_that_provision_at_once_do_not_disturb_each_other(client: SchemaRegistryClient) -> None:
    """Four at once, ten times: who finds the rule made in this moment sets the same one."""
    names = [f"test-{secrets.token_hex(5)}-value" for _ in range(10)]
    register = partial(subjects.register, text=schema_text("OrderCreated"))
    with ThreadPoolExecutor(4) as pool:
        for name in names:
            ids = set(pool.map(partial(register, client), [name] * 4))
            assert len(ids) == 1
            assert client.get_versions(name) == [1]
    for name in names:
        client.delete_subject(name)
        client.delete_subject(name, permanent=True)


def test_a_codec_reads_what_another_process_wrote(pipeline: Pipeline) -> None:
    writer = schema_registry.open_codec(pipeline.kafka, [ORDERS_CREATED])
    reader = schema_registry.open_codec(pipeline.kafka, EVENT_TOPICS)
    assert reader.decode(OrderCreated, writer.encode(ORDER)) == ORDER


def test_a_codec_fetches_the_schema_of_a_newer_writer(
    pipeline: Pipeline, client: SchemaRegistryClient, subject: str
) -> None:
    newer = subjects.register(client, subject, with_field({"name": "channel", "type": "string", "default": "shop"}))
    codec = schema_registry.open_codec(pipeline.kafka, [ORDERS_CREATED])
    written = b"\x00" + newer.to_bytes(4, "big") + codec.encode(ORDER)[5:] + b"\x08shop"
    assert codec.decode(OrderCreated, written) == ORDER


def test_an_id_that_is_not_registered_is_undecodable(pipeline: Pipeline) -> None:
    codec = schema_registry.open_codec(pipeline.kafka, [ORDERS_CREATED])
    with pytest.raises(Undecodable, match="schema id 2147483000") as error:
        codec.decode(OrderCreated, b"\x00" + (2_147_483_000).to_bytes(4, "big") + b"body")
    assert error.value.error_class == "schema"


def test_what_is_no_registry_is_named_and_makes_no_dead_letters(pipeline: Pipeline) -> None:
    """Its 404 says nothing about a schema id: a wrong address must not cost a record."""
    elsewhere = pipeline.kafka.model_copy(update={"registry_url": f"{pipeline.kafka.registry_url}/elsewhere"})
    with pytest.raises(ReportedError, match="refuses"):
        schema_registry.open_codec(elsewhere, [ORDERS_CREATED])
    with pytest.raises(ReportedError, match="refuses"), registry(elsewhere) as client:
        client.schema_text(1)


def test_a_registry_outage_after_start_stops_only_unknown_schemas(pipeline: Pipeline) -> None:
    reachable = schema_registry.open_codec(pipeline.kafka, [NOTIFICATION_SENT])
    sent = NotificationSent(ORDER.order_id, ORDER.order_id, "ada", Kind.ORDER_CONFIRMED, "log", 1)
    away = pipeline.kafka.model_copy(update={"registry_url": "http://127.0.0.1:9"})
    with pytest.raises(FatalError, match=r"registry does not answer at http://127\.0\.0\.1:9"):
        schema_registry.open_codec(away, [NOTIFICATION_SENT])
    with pytest.raises(Busy, match="schema registry"):
        subjects.register_all(away)
    assert reachable.decode(NotificationSent, reachable.encode(sent)) == sent
