"""librdkafka options: defaults stand, tuning is allowed, what breaks the guarantee is refused with its reason."""

from collections.abc import Callable
from typing import Any

import pytest

from common.config import KafkaSettings
from common.kafka.members import member_options, writer_options
from common.topics import INVENTORY
from onceloop.errors import ConfigError, ExitCode
from onceloop.kafka.options import (
    Options,
    admin_options,
    consumer_options,
    idempotent_producer_options,
    transactional_producer_options,
)

Make = Callable[..., Options]


def settings(**changes: Any) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap="127.0.0.1:9092", registry_url="http://127.0.0.1:8081", **changes)


def consuming(**overrides: Any) -> Options:
    return consumer_options(
        settings(kafka_consumer_options=overrides).kafka,
        group_id="inventory",
        slot=3,
    )


def producing(**overrides: Any) -> Options:
    return transactional_producer_options(
        settings(kafka_producer_options=overrides).kafka,
        transactional_id="inventory-3",
    )


def acking(**overrides: Any) -> Options:
    return idempotent_producer_options(settings(kafka_producer_options=overrides).kafka)


def refusal(make: Make, **overrides: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**overrides)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert "PIPELINE_KAFKA_" in caught.value.cure
    return caught.value.message


def test_defaults_pass_their_own_guard() -> None:
    assert consuming()["isolation.level"] == "read_committed"
    assert producing()["enable.idempotence"] is True
    assert acking()["acks"] == "all"
    assert admin_options(settings().kafka)["bootstrap.servers"] == "127.0.0.1:9092"


def test_slot_names_the_static_member_and_the_transactional_id() -> None:
    assert consuming()["group.instance.id"] == "inventory-3"
    assert producing()["transactional.id"] == "inventory-3"


def test_namespace_stands_before_group_member_and_transactional_id() -> None:
    blue = settings(namespace="blue")
    found = member_options(blue, INVENTORY, slot=3)
    assert (found["group.id"], found["group.instance.id"]) == ("blue.inventory", "blue.inventory-3")
    assert writer_options(blue, INVENTORY, slot=3)["transactional.id"] == "blue.inventory-3"


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("isolation.level", "read_uncommitted", "read_committed"),
        ("enable.auto.commit", True, "false"),
        ("enable.auto.offset.store", True, "false"),
        ("auto.offset.reset", "earliest", "error"),
        ("auto.offset.reset", "latest", "error"),
        ("group.protocol", "consumer", "classic"),
        ("group.id", "another", "inventory"),
        ("partition.assignment.strategy", "cooperative-sticky", "range"),
        ("group.instance.id", "", "inventory-3"),
        ("group.instance.id", "mine", "inventory-3"),
        ("group.instance.id", "inventory-4", "inventory-3"),
        ("group.instance.id", "inventory", "inventory-3"),
    ],
)
def test_consumer_option_that_breaks_the_guarantee_is_refused_with_the_value_it_must_have(
    option: str, value: object, wanted: str
) -> None:
    message = refusal(consuming, **{option: value})
    assert message.startswith(f"{option}={value} ")
    assert f"must be {wanted}" in message
    assert "because" in message


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("acks", 1, "all"),
        ("acks", "0", "all"),
        ("enable.idempotence", False, "true"),
        ("enable.idempotence", "false", "true"),
    ],
)
@pytest.mark.parametrize("make", [producing, acking])
def test_producer_option_that_may_lose_or_double_is_refused(
    make: Make, option: str, value: object, wanted: str
) -> None:
    message = refusal(make, **{option: value})
    assert message.startswith(f"{option}={value} ")
    assert f"must be {wanted}" in message


def test_transactional_id_of_its_own_choice_is_refused() -> None:
    assert refusal(producing, **{"transactional.id": "random-8461"}).startswith("transactional.id=random-8461 ")


@pytest.mark.parametrize(
    ("make", "overrides", "named"),
    [
        (consuming, {"heartbeat.interval.ms": 2001}, ["heartbeat.interval.ms=2001", "session.timeout.ms=6000"]),
        (consuming, {"session.timeout.ms": 4000}, ["heartbeat.interval.ms=1500", "session.timeout.ms=4000"]),
        (consuming, {"max.poll.interval.ms": 5999}, ["max.poll.interval.ms=5999", "session.timeout.ms=6000"]),
        (producing, {"message.timeout.ms": 10_001}, ["message.timeout.ms=10001", "transaction.timeout.ms=10000"]),
        (producing, {"message.timeout.ms": 0}, ["message.timeout.ms=0", "transaction.timeout.ms=10000"]),
        (producing, {"transaction.timeout.ms": 7000}, ["message.timeout.ms=8000", "transaction.timeout.ms=7000"]),
        (producing, {"socket.timeout.ms": 5001}, ["socket.timeout.ms=5001", "transaction.timeout.ms=10000"]),
        (producing, {"queue.buffering.max.messages": 9999}, ["queue.buffering.max.messages=9999"]),
    ],
)
def test_times_that_do_not_fit_together_are_refused_naming_both(
    make: Make, overrides: dict[str, object], named: list[str]
) -> None:
    message = refusal(make, **overrides)
    assert all(each in message for each in named)


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    message = refusal(consuming, **{"isolation.level": "read_uncommitted", "auto.offset.reset": "latest"})
    assert [line.partition("=")[0] for line in message.splitlines()] == ["isolation.level", "auto.offset.reset"]


def test_options_for_all_clients_are_guarded_too() -> None:
    with pytest.raises(ConfigError, match=r"isolation\.level"):
        consumer_options(
            settings(kafka_options={"isolation.level": "read_uncommitted"}).kafka,
            group_id="inventory",
            slot=0,
        )
    with pytest.raises(ConfigError, match="acks"):
        transactional_producer_options(
            settings(kafka_options={"acks": "1"}).kafka,
            transactional_id="inventory-0",
        )


def test_tuning_and_security_are_allowed() -> None:
    assert consuming(**{"session.timeout.ms": 30_000, "heartbeat.interval.ms": 10_000})["session.timeout.ms"] == 30_000
    assert producing(**{"compression.type": "zstd", "acks": -1})["compression.type"] == "zstd"
    secured = settings(kafka_options={"security.protocol": "SSL"})
    assert admin_options(secured.kafka)["security.protocol"] == "SSL"
    assert consumer_options(secured.kafka, group_id="inventory", slot=0)["security.protocol"] == "SSL"


def test_numbers_may_be_written_as_text__as_librdkafka_takes_them() -> None:
    assert (
        int(consuming(**{"session.timeout.ms": "9000", "heartbeat.interval.ms": "3000"})["session.timeout.ms"]) == 9000
    )
    assert int(producing(**{"transaction.timeout.ms": "20000"})["transaction.timeout.ms"]) == 20_000
    assert refusal(producing, **{"message.timeout.ms": "10001"}).startswith("message.timeout.ms=10001")


@pytest.mark.parametrize(
    ("make", "option", "value"),
    [
        (consuming, "session.timeout.ms", "soon"),
        (consuming, "heartbeat.interval.ms", "1.5"),
        (producing, "transaction.timeout.ms", "long"),
        (producing, "queue.buffering.max.messages", True),
    ],
)
def test_number_that_is_none_is_refused_by_name(make: Make, option: str, value: object) -> None:
    assert refusal(make, **{option: value}).startswith(f"{option}={value}")


@pytest.mark.parametrize("make", [consuming, producing, acking])
def test_option_that_librdkafka_does_not_know_is_refused_by_name(make: Make) -> None:
    assert "no.such.option" in refusal(make, **{"no.such.option": 1})


@pytest.mark.parametrize("make", [consuming, producing, acking])
def test_value_that_librdkafka_does_not_take_is_refused_by_name(make: Make) -> None:
    assert "reconnect.backoff.max.ms" in refusal(make, **{"reconnect.backoff.max.ms": "never"})


def test_security_that_is_set_by_half_is_refused() -> None:
    halved = settings(kafka_options={"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"})
    with pytest.raises(ConfigError, match=r"sasl\.username"):
        consumer_options(halved.kafka, group_id="inventory", slot=0)


def test_transaction_options_do_not_reach_a_producer_without_transactions() -> None:
    assert not [name for name in acking(**{"transaction.timeout.ms": 20_000}) if name.startswith("transaction")]
