"""Connector configurations: what they say, what is filled in, what they must have in common."""

import json
import re
from pathlib import Path

import pytest

from common.topics import SINKS, Sink
from deploy.provision.config import ProvisionSettings
from deploy.provision.connectors import fill, name_within, put, template, values, wanted
from onceloop.errors import ConfigError, FatalError

FOLDER = Path(__file__).parents[3] / "deploy" / "connect"
POSTGRES = [sink for sink in SINKS if sink.store == "postgres"]
OWN = {"topics", "consumer.override.group.id", "errors.deadletterqueue.topic.name"}
"""What differs between the connectors of one store, beside columns, table and key."""


def make_settings(**changed: object) -> ProvisionSettings:
    return ProvisionSettings(
        **{
            "kafka_bootstrap": "127.0.0.1:9092",
            "registry_url": "http://registry:8081/apis/ccompat/v7",
            "postgres_admin_url": "postgresql://postgres@db:5432/postgres",
            "role_secrets_dir": "/run/secrets/roles",
            "connect_stores": "postgres,mongo",
            **changed,
        }  # type: ignore[arg-type]  # as the environment would give them
    )


def sink_id(sink: Sink) -> str:
    return sink.group.name


def test_every_file_is_a_row_of_the_table_of_sinks_and_the_reverse() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {sink.group.name for sink in SINKS}


@pytest.mark.parametrize("sink", SINKS, ids=sink_id)
@pytest.mark.parametrize("namespace", ["", "staging"])
def test_topic_group_and_dead_letters_are_those_of_the_table(sink: Sink, namespace: str) -> None:
    configuration = wanted(make_settings(namespace=namespace))[name_within(sink, namespace)]
    assert configuration["topics"] == sink.source.within(namespace)
    assert configuration["consumer.override.group.id"] == sink.group.within(namespace)
    assert configuration["errors.deadletterqueue.topic.name"] == sink.dead_letters.within(namespace)


@pytest.mark.parametrize("sink", SINKS, ids=sink_id)
def test_addresses_come_from_the_settings_and_passwords_stay_with_the_worker(sink: Sink) -> None:
    configuration = wanted(make_settings(connect_credentials="/secrets/connect.properties"))[sink.group.name]
    assert configuration["value.converter.apicurio.registry.url"] == "http://registry:8081/apis/registry/v2"
    where = {"postgres": "connection.password", "mongo": "connection.uri"}[sink.store]
    assert configuration[where].startswith("${file:/secrets/connect.properties:")
    if sink.store == "postgres":
        assert configuration["connection.url"].startswith("jdbc:postgresql://db:5432/pipeline?")


@pytest.mark.parametrize("sink", SINKS, ids=sink_id)
def test_every_sink_repeats_what_it_wrote_without_effect_and_loses_nothing_unseen(sink: Sink) -> None:
    configuration = json.loads(template(sink))
    repeatable = {
        "postgres": {"insert.mode": "upsert", "primary.key.mode": "record_value", "schema.evolution": "none"},
        "mongo": {
            "document.id.strategy.overwrite.existing": "true",
            "writemodel.strategy": "com.mongodb.kafka.connect.sink.writemodel.strategy.ReplaceOneDefaultStrategy",
        },
    }[sink.store]
    reporting = {"errors.tolerance": "all", "errors.deadletterqueue.context.headers.enable": "true"}
    assert {**configuration, **repeatable, **reporting} == configuration


@pytest.mark.parametrize("sink", SINKS, ids=sink_id)
def test_the_largest_record_still_fits_as_a_dead_letter(sink: Sink) -> None:
    """The producer's own bound is lower; what it refuses would be lost, and only the log would say so."""
    configuration = json.loads(template(sink))
    assert configuration["producer.override.max.request.size"] == str(sink.dead_letters.message_bytes_max)


@pytest.mark.parametrize("sink", POSTGRES, ids=sink_id)
def test_sessions_are_in_utc(sink: Sink) -> None:
    """Else the zone of the worker decides which moment is stored."""
    assert json.loads(template(sink))["hibernate.agroal.initialSQL"] == "SET TIME ZONE 'UTC'"


@pytest.mark.parametrize("sink", SINKS, ids=sink_id)
def test_a_schema_once_read_outlives_the_registry(sink: Sink) -> None:
    """Else it is asked for every 30 s, and a registry that is away then makes a dead letter of a good record."""
    configuration = json.loads(template(sink))
    assert configuration["value.converter.apicurio.registry.fault-tolerant-refresh"] == "true"
    assert int(configuration["value.converter.apicurio.registry.check-period-ms"]) >= 24 * 60 * 60 * 1000


def test_connectors_of_one_store_differ_only_in_what_they_copy() -> None:
    allowed = OWN | {"transforms.columns.include", "collection.name.format", "primary.key.fields"}
    first, *others = (json.loads(template(sink)) for sink in POSTGRES)
    for other in others:
        assert {name for name in first | other if first.get(name) != other.get(name)} <= allowed


def test_only_the_stores_that_were_asked_for_get_connectors() -> None:
    assert set(wanted(make_settings(connect_stores="postgres"))) == {sink.group.name for sink in POSTGRES}


def test_a_name_that_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("nothing is known for {{postgress}}")):
        fill('{"connection.url": "jdbc:postgresql://{{postgress}}/x"}', {"postgres": "db:5432"})


def test_connect_s_own_placeholders_are_left_to_the_worker() -> None:
    assert fill('{"a": "${file:/x:y} {{b}}"}', {"b": "c"}) == {"a": "${file:/x:y} c"}


def test_workers_that_do_not_answer_are_named_without_their_password() -> None:
    """Red before: the message repeated the URL as it was set."""
    with pytest.raises(FatalError, match=r"does not answer at http://127\.0\.0\.1:9/?:") as raised:
        put(make_settings(connect_url="http://ada:c4nary@127.0.0.1:9"))
    assert "c4nary" not in f"{raised.value.message} {raised.value.cure}"


def test_password_of_a_registry_never_gets_into_a_configuration() -> None:
    """Red before: anybody could read it over the workers' REST API."""
    with pytest.raises(ConfigError, match="user and password") as refused:
        values(make_settings(registry_url="http://svc:c4nary@registry:8081"))
    assert "c4nary" not in f"{refused.value.message} {refused.value.cure}"


def test_proxy_of_a_kind_that_the_client_does_not_know_is_a_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Red before: it ended as an internal error."""
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALL_PROXY", "socks5://ada:c4nary@proxy.example:1080")
    with pytest.raises(ConfigError, match=r"proxy socks5://proxy\.example:1080") as refused:
        put(make_settings(connect_url="http://connect.example:8083"))
    assert "c4nary" not in f"{refused.value.message} {refused.value.cure}"
