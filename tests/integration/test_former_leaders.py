"""An admin client that once looked up who leads a partition, and is asked again after that has changed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without __all__

from chaos.checker.cluster import EARLIEST
from chaos.checker.cluster import Cluster as WatchedCluster
from chaos.checker.terms import Spot
from common.config import KafkaSettings
from common.kafka.admin_calls import AdminCalls
from common.topics import METRICS_PARTIALS
from deploy.offsets.cluster import Cluster as MendedCluster
from onceloop.records import Partition
from tests.audits import grow
from tests.mock_cluster import MockCluster
from tests.pipeline import Pipeline

Ask = Callable[[], object]


@pytest.fixture(scope="module")
def cluster() -> Iterator[MockCluster]:
    made = MockCluster()
    yield made
    made.close()


def of_admin(settings: KafkaSettings) -> Ask:
    options: dict[str, Any] = {"bootstrap.servers": settings.kafka_bootstrap}
    client = AdminClient(options)
    calls = AdminCalls(client, options=options, bootstrap=settings.kafka_bootstrap)
    asked: dict[TopicPartition, OffsetSpec] = {TopicPartition("in", 0): EARLIEST}
    return lambda: [found.offset for found in calls.call(lambda _: client.list_offsets(asked)).values()]


def of_checker(settings: KafkaSettings) -> Ask:
    cluster = WatchedCluster(settings)
    return lambda: cluster.offsets([Spot("in", 0)], EARLIEST)


def of_offsets_repair(settings: KafkaSettings) -> Ask:
    cluster = MendedCluster(settings)
    return lambda: cluster.settled_ends([Partition("in", 0)])


@pytest.mark.parametrize("client", [of_admin, of_checker, of_offsets_repair])
def test_client_asks_again_after_another_leader_epoch_has_begun(
    cluster: MockCluster, client: Callable[[KafkaSettings], Ask]
) -> None:
    """Fault: the partition loses its leader and gets it back; the client goes on with the former epoch by itself."""
    ask = client(KafkaSettings(kafka_bootstrap=cluster.bootstrap, registry_url="http://127.0.0.1:1"))
    before = ask()
    cluster.elect("in")
    assert ask() == before


def test_client_asks_again_after_partitions_were_added(pipeline: Pipeline) -> None:
    """Fault: partitions are added; the client goes on with the number that it knows by itself."""
    cluster = WatchedCluster(pipeline.kafka)
    known = cluster.spots(METRICS_PARTIALS)
    assert cluster.offsets(known, EARLIEST) == dict.fromkeys(known, 0)
    grow(pipeline, METRICS_PARTIALS, len(known) + 2)
    added = [Spot(METRICS_PARTIALS.name, len(known) + 1)]
    assert cluster.offsets(added, EARLIEST) == {added[0]: 0}
