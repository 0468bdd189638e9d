"""What a member of a group does when the coordinator refuses to return the committed offsets."""

import itertools
from collections.abc import Iterator

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, TopicPartition

from common.config import KafkaSettings
from common.kafka.members import member_options
from common.telemetry import RUNTIME
from common.topics import NOTIFICATION
from onceloop.errors import Busy
from onceloop.kafka.group_consumer import GroupConsumer
from tests.mock_cluster import MockCluster, Request
from tests.records import wait_for

NAMESPACES = itertools.count()


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    made = MockCluster()
    producer = confluent_kafka.Producer({"bootstrap.servers": made.bootstrap})
    for value in ("first", "second"):
        producer.produce("in", value)
    assert producer.flush(10) == 0
    yield made
    made.close()


@pytest.fixture
def consumer(cluster: MockCluster) -> Iterator[GroupConsumer]:
    """A member of a group that has read the first of two records."""
    settings = KafkaSettings(
        kafka_bootstrap=cluster.bootstrap, registry_url="http://127.0.0.1:1", namespace=f"n{next(NAMESPACES)}"
    )
    options = member_options(settings, NOTIFICATION, slot=0)
    operator = confluent_kafka.Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": options["group.id"]})
    operator.commit(offsets=[TopicPartition("in", 0, 1)], asynchronous=False)
    operator.close()
    made = GroupConsumer(options, ["in"], service="notification", runtime=RUNTIME)
    yield made
    made.close()


@pytest.mark.parametrize(
    "error",
    [
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.UNKNOWN,
    ],
    ids=lambda error: KafkaError(error).name(),
)
def test_coordinator_that_refuses_once_keeps_no_member_from_reading(
    cluster: MockCluster, consumer: GroupConsumer, error: int
) -> None:
    """Aim: H53. Fault: the first answer about committed offsets is an error; the client itself would not ask again."""
    cluster.answer(Request.OFFSET_FETCH, [error])
    taken: list[bytes | None] = []

    def read_on() -> bool:
        batch = consumer.take(10)
        if consumer.moved:
            assert batch == []
            _start(consumer)
            return False
        taken.extend(record.value for record in batch)
        return bool(taken)

    wait_for(read_on, what="the second record")
    assert taken == [b"second"]


def _start(consumer: GroupConsumer) -> None:
    try:
        consumer.seek({partition: point.offset for partition, point in consumer.committed().items()})
    except Busy:
        return
