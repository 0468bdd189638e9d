"""What clients do before they have met a broker, and after a fork: none answers here."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from common.config import KafkaSettings
from common.telemetry import RUNTIME
from onceloop.errors import ContractError, ExitCode, FatalError
from onceloop.kafka.acked_producer import AckedProducer
from onceloop.kafka.group_consumer import GroupConsumer, topic_partitions
from onceloop.records import CommitPoint, OutputRecord, Partition
from onceloop.telemetry import SILENT

SETTINGS = KafkaSettings(kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1")


@pytest.fixture
def consumer() -> Iterator[GroupConsumer]:
    made = GroupConsumer(
        {"group.id": "blue.inventory", "group.instance.id": "blue.inventory-0"},
        ["orders.created"],
        service="inventory",
        runtime=RUNTIME,
    )
    yield made
    made.close()


def exit_code_of_child(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_consumer_that_crossed_a_fork_refuses_to_be_used_and_leaves_its_parent_alone(consumer: GroupConsumer) -> None:
    """Aim: H38. An inherited handle has no threads behind it: it would hang, or act for its parent."""
    child = os.fork()
    if child == 0:
        try:
            consumer.take(1)
        except ContractError:
            consumer.close()  # as every loop does at its end; nothing waits for the handle
            os._exit(ExitCode.SOFTWARE)
        os._exit(ExitCode.OK)
    assert exit_code_of_child(child) == ExitCode.SOFTWARE
    assert consumer.take(1) == []  # the parent goes on


def test_producer_that_crossed_a_fork_refuses_to_send() -> None:
    producer = AckedProducer(SETTINGS.kafka)
    child = os.fork()
    if child == 0:
        try:
            producer.send([OutputRecord("orders.created", b"ada", b"value")])
        except FatalError:
            os._exit(ExitCode.SOFTWARE)
        os._exit(ExitCode.OK)
    assert exit_code_of_child(child) == ExitCode.SOFTWARE
    producer.close()


def test_consumer_that_owns_nothing_has_no_offsets_and_nothing_to_seek(consumer: GroupConsumer) -> None:
    assert not consumer.joined
    assert consumer.owned == frozenset()
    assert consumer.committed() == {}
    assert consumer.seek({})


def test_client_form_of_a_commit_point_keeps_offset_and_metadata() -> None:
    (found,) = topic_partitions({Partition("orders.created", 3): CommitPoint(42, "window 7")})
    assert (found.topic, found.partition, found.offset, found.metadata) == ("orders.created", 3, 42, "window 7")


@pytest.mark.parametrize(
    ("code", "reported"),
    [
        (KafkaError._AUTHENTICATION, True),
        (KafkaError._SSL, True),
        (KafkaError.SASL_AUTHENTICATION_FAILED, True),
        (KafkaError._ALL_BROKERS_DOWN, False),
    ],
)
def test_client_that_a_broker_does_not_trust_says_so(consumer: GroupConsumer, code: int, *, reported: bool) -> None:
    """A worker with an old password was not ready, and said nothing at all."""
    producer = AckedProducer(SETTINGS.kafka, observer=RUNTIME.observer)
    for on_error in (consumer._on_error, producer._on_error):
        with capture_logs() as logs:
            on_error(KafkaError(code, "said the client"))
        assert [line["event"] for line in logs] == ["broker.distrusted"] * reported
    producer.close()


class OneRecord:
    """A client with a record at each poll; it notes how long it was asked to wait for more."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def subscribe(self, *_: object, **__: object) -> None: ...

    def consume(self, _records: int, seconds: float) -> list[object]:
        self.waited.append(round(seconds, 3))
        return []

    def poll(self, _seconds: float) -> Any:
        return SimpleNamespace(
            error=lambda: None, topic=lambda: "in", partition=lambda: 0, offset=lambda: 0, key=bytes, value=bytes
        )


def test_record_that_comes_alone_is_taken_at_once__and_one_close_behind_waits_for_company() -> None:
    client, clock = OneRecord(), SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    runtime: Any = SimpleNamespace(observer=SILENT, clock=clock, consumer=lambda *_, **__: client)
    member = GroupConsumer({}, ["in"], service="test", gather_seconds=0.02, runtime=runtime)
    for pause_seconds in (0.0, 0.005, 0.019, 0.5):
        clock.now += pause_seconds
        assert len(member.take(10)) == 1
    member.take(1)  # a batch of one record is full
    assert client.waited == [0.0, 0.015, 0.001, 0.0]
