"""When the acknowledged producer may say "not written": of the only attempt there was, in words that mean it.

On librdkafka's own mock cluster, which answers Produce requests with any error: it is the client that is examined here.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import KafkaError

from common.config import KafkaSettings
from onceloop.kafka.acked_producer import AckedProducer, NotWritten, Unacknowledged, first_attempt_seconds
from onceloop.kafka.errors import REFUSALS, Refusal
from onceloop.kafka.options import idempotent_producer_options
from onceloop.records import OutputRecord
from tests.mock_cluster import MockCluster, Request

RECORD = OutputRecord("out", b"key", b"value")


def name_of(error: int) -> str:
    return KafkaError(error).name()


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[MockCluster]:
    made = MockCluster()
    yield made
    made.close()


@pytest.fixture
def cluster(shared_cluster: MockCluster) -> Iterator[MockCluster]:
    yield shared_cluster
    shared_cluster.forgive()


@pytest.fixture
def acked(cluster: MockCluster) -> Iterator[AckedProducer]:
    settings = KafkaSettings(kafka_bootstrap=cluster.bootstrap, registry_url="http://127.0.0.1:1")
    with closing(AckedProducer(settings.kafka)) as producer:
        producer.produce([RECORD], timeout_seconds=5)  # connected, and the topic known
        yield producer


@pytest.mark.parametrize("error", sorted(REFUSALS.keys() - {KafkaError._INVALID_DIFFERENT_RECORD}), ids=name_of)
def test_refusal_of_the_only_attempt_says_that_nothing_was_written(
    cluster: MockCluster, acked: AckedProducer, error: int
) -> None:
    """It was reported as "maybe"."""
    cluster.answer(Request.PRODUCE, [error])
    with pytest.raises(NotWritten) as refused:
        acked.produce([RECORD], timeout_seconds=5)
    assert refused.value.refusal is REFUSALS[error]


@pytest.mark.parametrize("error", sorted(REFUSALS.keys() - {KafkaError._INVALID_DIFFERENT_RECORD}), ids=name_of)
@pytest.mark.parametrize(
    "lost",
    [KafkaError.REQUEST_TIMED_OUT, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, KafkaError.NOT_LEADER_FOR_PARTITION],
    ids=name_of,
)
def test_refusal_of_a_later_attempt_is_maybe(cluster: MockCluster, acked: AckedProducer, lost: int, error: int) -> None:
    """The first attempt may have been written: its answer is none, and brokers refuse before they look for a copy."""
    cluster.answer(Request.PRODUCE, [lost, error])
    with pytest.raises(Unacknowledged) as unknown:
        acked.produce([RECORD], timeout_seconds=5)
    assert not isinstance(unknown.value, NotWritten)


@pytest.mark.parametrize(
    "error",
    [KafkaError.UNKNOWN, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.INVALID_PRODUCER_EPOCH],
    ids=name_of,
)
def test_error_that_does_not_say_that_nothing_was_written_is_maybe(
    cluster: MockCluster, acked: AckedProducer, error: int
) -> None:
    cluster.answer(Request.PRODUCE, [error])
    with pytest.raises(Unacknowledged) as unknown:
        acked.produce([RECORD], timeout_seconds=5)
    assert not isinstance(unknown.value, NotWritten)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 0.2),
        ({"retry.backoff.ms": "20"}, 0.016),
        ({"retry.backoff.ms": 3000, "retry.backoff.max.ms": 3000}, 2.4),
        ({"retry.backoff.ms": 3000}, 0.8),
    ],
)
def test_first_attempt_lasts_as_long_as_the_client_certainly_waits_before_the_second(
    options: dict[str, str | int], seconds: float
) -> None:
    settings = KafkaSettings(
        kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1", kafka_producer_options=options
    )
    assert first_attempt_seconds(idempotent_producer_options(settings.kafka)) == pytest.approx(seconds)


def test_refusal_of_one_among_records_that_were_written_is_maybe(acked: AckedProducer) -> None:
    small, large = RECORD, RECORD._replace(value=b"x" * 2_000_000)
    with pytest.raises(Unacknowledged, match="too large") as unknown:
        acked.produce([small, large], timeout_seconds=5)
    assert not isinstance(unknown.value, NotWritten)


def test_record_that_the_client_does_not_even_take_is_refused(acked: AckedProducer) -> None:
    with pytest.raises(NotWritten) as refused:
        acked.send([RECORD._replace(value=b"x" * 2_000_000)])
    assert refused.value.refusal is Refusal.TOO_LARGE


def test_full_queue_refuses_the_record_that_finds_it_full(cluster: MockCluster) -> None:
    settings = KafkaSettings(
        kafka_bootstrap=cluster.bootstrap,
        registry_url="http://127.0.0.1:1",
        kafka_producer_options={"queue.buffering.max.messages": 1},
    )
    cluster.delay(2000)
    with closing(AckedProducer(settings.kafka)) as producer:
        producer.send([RECORD])
        with pytest.raises(NotWritten) as refused:
            producer.send([RECORD])
    assert refused.value.refusal is Refusal.CROWDED
