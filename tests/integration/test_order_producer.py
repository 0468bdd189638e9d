"""The producer outside transactions: acknowledged means on the topic, anything else means "maybe"."""

import ctypes
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from common.config import KafkaSettings
from common.topics import ORDERS_CREATED
from onceloop.errors import FatalError
from onceloop.kafka.acked_producer import AckedProducer, Unacknowledged
from onceloop.records import OutputRecord
from tests.api import new_user
from tests.forwarder import Forwarder, forward
from tests.pipeline import Pipeline, open_pipeline
from tests.records import Seen, read
from tests.stack import Stack

OUT_OF_ORDER_SEQUENCE_NUMBER = 45
SLACK_SECONDS = 3.0
"""What any call may take longer on a busy machine; a producer without a limit of its own would try for minutes."""


@pytest.fixture(scope="module")
def pipeline(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with open_pipeline(servers, logs=tmp_path_factory.mktemp("producer")) as opened:
        yield opened


@pytest.fixture
def producer(pipeline: Pipeline) -> Iterator[AckedProducer]:
    with closing(AckedProducer(pipeline.kafka.kafka)) as opened:
        yield opened


def record(pipeline: Pipeline, key: str, value: bytes = b"v") -> OutputRecord:
    return OutputRecord(ORDERS_CREATED.within(pipeline.namespace), key.encode(), value, (("ce_id", b"1"), ("x", None)))


def seen(pipeline: Pipeline, key: str) -> list[Seen]:
    return [one for one in read(pipeline, ORDERS_CREATED) if one.key == key.encode()]


def behind(pipeline: Pipeline, broker: Forwarder, **options: Any) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap=f"127.0.0.1:{broker.port}",
        registry_url=pipeline.kafka.registry_url,
        kafka_producer_options=options,
    )


def test_acknowledged_record_is_on_the_topic_as_it_was_given(pipeline: Pipeline, producer: AckedProducer) -> None:
    key = new_user()
    producer.produce([record(pipeline, key, b"one"), record(pipeline, key, b"two")], timeout_seconds=10)
    assert [one.value for one in seen(pipeline, key)] == [b"one", b"two"]
    assert seen(pipeline, key)[0].headers["ce_id"] == b"1"


def test_nothing_to_send_is_acknowledged_at_once(producer: AckedProducer) -> None:
    producer.produce([], timeout_seconds=0)


def test_many_threads_share_a_producer(pipeline: Pipeline, producer: AckedProducer) -> None:
    key = new_user()

    def send(thread: int) -> None:
        for number in range(20):
            producer.produce([record(pipeline, key, f"{thread}-{number}".encode())], timeout_seconds=10)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(send, thread) for thread in range(16)]:
            future.result()
    values = [one.value for one in seen(pipeline, key)]
    assert len(values) == len(set(values)) == 16 * 20


def test_what_was_not_acknowledged_is_not_sent_later(pipeline: Pipeline) -> None:
    """Aim: a client that got "maybe" must not find its order accepted minutes later. Fault: no broker for 5 s."""
    key = new_user()
    with (
        forward(pipeline.kafka.kafka_bootstrap, cut=True) as broker,
        closing(AckedProducer(behind(pipeline, broker).kafka)) as producer,
    ):
        started = time.monotonic()
        with pytest.raises(Unacknowledged):
            producer.produce([record(pipeline, key, b"early")], timeout_seconds=5)
        assert time.monotonic() - started < 5 + SLACK_SECONDS
        assert not producer.reaches(ORDERS_CREATED.within(pipeline.namespace), timeout_seconds=1.5)
        broker.heal()
        producer.produce([record(pipeline, key, b"late")], timeout_seconds=10)
    assert [one.value for one in seen(pipeline, key)] == [b"late"]


def test_full_queue_refuses_at_once(pipeline: Pipeline) -> None:
    with forward(pipeline.kafka.kafka_bootstrap, cut=True) as broker:
        producer = AckedProducer(behind(pipeline, broker, **{"queue.buffering.max.messages": 3}).kafka)
        started = time.monotonic()
        with closing(producer), pytest.raises(Unacknowledged, match="too many"):
            producer.send([record(pipeline, "k")] * 4)
        assert time.monotonic() - started < 5


def test_unknown_topic_is_not_reached(pipeline: Pipeline, producer: AckedProducer) -> None:
    assert producer.reaches(ORDERS_CREATED.within(pipeline.namespace), timeout_seconds=5)
    assert not producer.reaches("never-made", timeout_seconds=5)


def test_producer_that_crossed_a_fork_is_refused(pipeline: Pipeline, producer: AckedProducer) -> None:
    """An inherited producer has no threads: its call would never return."""
    child = os.fork()
    if child == 0:
        try:
            producer.send([record(pipeline, "k")])
        except FatalError:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_producer_survives_a_fatal_error_of_its_client(pipeline: Pipeline, producer: AckedProducer) -> None:
    """Fault: librdkafka's own test hook raises the error that ends an idempotent producer for good."""
    key = new_user()
    producer.produce([record(pipeline, key, b"before")], timeout_seconds=10)
    make_fatal(producer)
    with suppress(Unacknowledged):  # the first to learn of the error, this call or the polling thread, replaces it
        producer.produce([record(pipeline, key, b"perhaps")], timeout_seconds=10)
    producer.produce([record(pipeline, key, b"after")], timeout_seconds=10)
    values = [one.value for one in seen(pipeline, key) if one.value != b"perhaps"]
    assert values == [b"before", b"after"]


def make_fatal(producer: AckedProducer) -> None:
    """Call rd_kafka_test_fatal_error on the handle: the first member behind the head of the client's object."""
    package = Path(confluent_kafka.__file__).parent
    (library,) = (package.parent / "confluent_kafka.libs").glob("librdkafka*.so*")
    librdkafka = ctypes.CDLL(str(library))
    librdkafka.rd_kafka_test_fatal_error.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    client = producer._producer  # held: the polling thread may replace it, and free the handle, before the call returns
    handle = ctypes.c_void_p.from_address(id(client) + object.__basicsize__).value
    assert librdkafka.rd_kafka_test_fatal_error(handle, OUT_OF_ORDER_SEQUENCE_NUMBER, b"test") == 0
