"""What librdkafka makes of a broker's errors, and what the transactional producer makes of that: the design's table.

On librdkafka's own mock cluster: it is the client that is examined here, not a broker.
"""

import gc
import itertools
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException

from common.config import KafkaSettings
from common.kafka.members import writer_options
from common.telemetry import RUNTIME
from common.topics import Group
from onceloop import failpoints
from onceloop.kafka import transactional_producer as producer_module
from onceloop.kafka.acked_producer import AckedProducer, Unacknowledged
from onceloop.kafka.errors import ErrorKind, classify, is_fenced, kafka_error
from onceloop.kafka.transactional_producer import End, TransactionalProducer
from onceloop.records import CommitPoint, OutputRecord, Partition, Publish
from tests.mock_cluster import MockCluster, Request
from tests.records import wait_for

PLAN = Publish(records=[OutputRecord("out", b"key", b"value")], offsets={Partition("in", 0): CommitPoint(1)})
SLOTS = itertools.count()
TASKS = Path("/proc/self/task")


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared_cluster: MockCluster) -> Iterator[MockCluster]:
    yield shared_cluster
    shared_cluster.forgive()


@pytest.fixture(scope="module")
def group_metadata(shared_cluster: MockCluster) -> Iterator[Any]:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": shared_cluster.bootstrap, "group.id": "readers"})
    yield consumer.consumer_group_metadata()
    consumer.close()


def new_producer(cluster: MockCluster, **overrides: Any) -> TransactionalProducer:
    """Return an initialised producer with the options of the product, in a slot that was never used before."""
    settings = KafkaSettings(
        kafka_bootstrap=cluster.bootstrap, registry_url="http://127.0.0.1:1", kafka_producer_options=overrides
    )
    producer = TransactionalProducer(
        writer_options(settings, Group("examined"), slot=next(SLOTS)),
        service="examined",
        runtime=RUNTIME,
    )
    producer.initialise()
    return producer


def publish(producer: TransactionalProducer, group_metadata: Any) -> tuple[End, list[Mapping[str, Any]]]:
    """Return how it ended, and each error that was met on the way."""
    with structlog.testing.capture_logs() as logs:
        end = producer.publish(PLAN, group_metadata, stopping=lambda: False)
    return end, [line for line in logs if line["event"] == "transaction.unsure"]


REBUILT = [
    (Request.END_TXN, KafkaError.PRODUCER_FENCED, ErrorKind.FATAL, "_FENCED"),
    (Request.END_TXN, KafkaError.INVALID_PRODUCER_EPOCH, ErrorKind.FATAL, "_FENCED"),
    (Request.END_TXN, KafkaError.INVALID_TXN_STATE, ErrorKind.FATAL, "INVALID_TXN_STATE"),
    (Request.ADD_PARTITIONS, KafkaError.INVALID_TXN_STATE, ErrorKind.FATAL, "INVALID_TXN_STATE"),
    (Request.END_TXN, KafkaError.INVALID_PRODUCER_ID_MAPPING, ErrorKind.ABORTABLE, "INVALID_PRODUCER_ID_MAPPING"),
    (
        Request.ADD_PARTITIONS,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        ErrorKind.ABORTABLE,
        "INVALID_PRODUCER_ID_MAPPING",
    ),
    (Request.ADD_OFFSETS, KafkaError.INVALID_PRODUCER_ID_MAPPING, ErrorKind.ABORTABLE, "INVALID_PRODUCER_ID_MAPPING"),
    (Request.END_TXN, KafkaError.TRANSACTION_ABORTABLE, ErrorKind.ABORTABLE, "TRANSACTION_ABORTABLE"),
    (Request.ADD_PARTITIONS, KafkaError.TRANSACTION_ABORTABLE, ErrorKind.ABORTABLE, "TRANSACTION_ABORTABLE"),
    (Request.END_TXN, KafkaError.UNKNOWN, ErrorKind.ABORTABLE, "UNKNOWN"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.ILLEGAL_GENERATION, ErrorKind.ABORTABLE, "ILLEGAL_GENERATION"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.UNKNOWN_MEMBER_ID, ErrorKind.ABORTABLE, "UNKNOWN_MEMBER_ID"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.FENCED_INSTANCE_ID, ErrorKind.ABORTABLE, "FENCED_INSTANCE_ID"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.REBALANCE_IN_PROGRESS, ErrorKind.ABORTABLE, "REBALANCE_IN_PROGRESS"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.STALE_MEMBER_EPOCH, ErrorKind.ABORTABLE, "STALE_MEMBER_EPOCH"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.TRANSACTION_ABORTABLE, ErrorKind.ABORTABLE, "TRANSACTION_ABORTABLE"),
    (Request.TXN_OFFSET_COMMIT, KafkaError.INVALID_PRODUCER_EPOCH, ErrorKind.FATAL, "_FENCED"),
    (Request.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH, ErrorKind.FATAL, "_FENCED"),
    (Request.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorKind.FATAL, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
    (Request.PRODUCE, KafkaError.INVALID_TXN_STATE, ErrorKind.ABORTABLE, "INVALID_TXN_STATE"),
    (Request.PRODUCE, KafkaError.UNKNOWN_PRODUCER_ID, ErrorKind.ABORTABLE, "UNKNOWN_PRODUCER_ID"),
    (Request.PRODUCE, KafkaError.TRANSACTION_ABORTABLE, ErrorKind.ABORTABLE, "TRANSACTION_ABORTABLE"),
    (Request.PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE, ErrorKind.ABORTABLE, "MSG_SIZE_TOO_LARGE"),
]
RETRIED_INSIDE = [
    (Request.END_TXN, KafkaError.CONCURRENT_TRANSACTIONS),
    (Request.END_TXN, KafkaError.NOT_COORDINATOR),
    (Request.ADD_PARTITIONS, KafkaError.CONCURRENT_TRANSACTIONS),
    (Request.ADD_OFFSETS, KafkaError.CONCURRENT_TRANSACTIONS),
    (Request.TXN_OFFSET_COMMIT, KafkaError.COORDINATOR_LOAD_IN_PROGRESS),
    (Request.PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION),
]


BEHIND = {Request.PRODUCE, Request.ADD_PARTITIONS}


def clients() -> int:
    """Return how many clients of librdkafka this process has, by their main threads."""
    names = []
    for task in TASKS.iterdir():
        with suppress(OSError):  # it has ended meanwhile
            names.append((task / "comm").read_text())
    return sum(name.startswith("rdk:main") for name in names)


def shown(value: object) -> str:
    return (
        value.name if isinstance(value, Request) else KafkaError(value).name() if isinstance(value, int) else str(value)
    )


@pytest.mark.parametrize(("request_", "error", "kind", "name"), REBUILT, ids=shown)
def test_error_that_ends_a_transaction_leaves_it_unknown_and_the_producer_tainted(
    cluster: MockCluster, group_metadata: Any, request_: Request, error: int, kind: ErrorKind, name: str
) -> None:
    producer = new_producer(cluster)
    cluster.answer(request_, [error])
    end, met = publish(producer, group_metadata)
    assert end is End.UNKNOWN
    assert [line["kind"] for line in met] == [kind]
    # What happens behind a call may be reported by the next one: then an abortable error is a wrong state.
    noticed = {"_STATE"} if kind is ErrorKind.ABORTABLE and request_ in BEHIND else set()
    assert met[0]["error"] in {name} | noticed
    assert producer.tainted()
    assert producer.fenced is (name == "_FENCED")


@pytest.mark.skipif(not TASKS.exists(), reason="counts clients by their threads, which Linux alone names")
@pytest.mark.parametrize(("request_", "error"), [row[:2] for row in REBUILT], ids=shown)
def test_producer_that_is_given_up_after_an_error_leaves_no_client_behind(
    cluster: MockCluster, group_metadata: Any, request_: Request, error: int
) -> None:
    """Red before, wherever the error came from `send_offsets_to_transaction`: a ring of references kept the client. A
    worker's collector hardly ever looks at what is old, so the test does without it."""
    gc.disable()
    try:
        before = clients()
        producer = new_producer(cluster)
        cluster.answer(request_, [error])
        publish(producer, group_metadata)
        producer.drop()
        del producer
        wait_for(lambda: clients() == before, what="the end of the client")
    finally:
        gc.enable()


@pytest.mark.parametrize(("request_", "error"), RETRIED_INSIDE, ids=shown)
def test_error_that_librdkafka_retries_itself_is_never_seen(
    cluster: MockCluster, group_metadata: Any, request_: Request, error: int
) -> None:
    producer = new_producer(cluster)
    cluster.answer(request_, [error])
    assert publish(producer, group_metadata) == (End.COMMITTED, [])


def test_clean_quick_commit_leaves_no_taint__so_the_producer_goes_on(cluster: MockCluster, group_metadata: Any) -> None:
    producer = new_producer(cluster)
    for _ in range(3):
        assert publish(producer, group_metadata) == (End.COMMITTED, [])
        assert not producer.tainted()


def test_after_a_fatal_error_every_further_attempt_fails_alike(cluster: MockCluster, group_metadata: Any) -> None:
    producer = new_producer(cluster)
    cluster.answer(Request.END_TXN, [KafkaError.PRODUCER_FENCED])
    publish(producer, group_metadata)
    for _ in range(2):
        end, met = publish(producer, group_metadata)
        assert (end, [line["kind"] for line in met]) == (End.UNKNOWN, [ErrorKind.FATAL])
        assert producer.tainted()


@pytest.fixture
def late_commit(cluster: MockCluster, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the broker answer late from the commit on, by so many milliseconds as the list says."""
    delays: list[int] = []
    monkeypatch.setattr(
        failpoints, "point", lambda name: cluster.delay(delays[0]) if name == "examined:offsets_sent" else None
    )
    return delays


def test_commit_whose_answer_is_late_is_committed_again_until_it_comes__and_taints(
    cluster: MockCluster, group_metadata: Any, late_commit: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = new_producer(cluster)
    monkeypatch.setattr(producer_module, "SLICE_SECONDS", 0.2)
    late_commit.append(500)
    end, met = publish(producer, group_metadata)
    assert end is End.COMMITTED
    assert {(line["call"], line["kind"], line["error"]) for line in met} == {
        ("commit", ErrorKind.RETRIABLE, "_TIMED_OUT")
    }
    assert producer.tainted() == "commit"


def test_commit_that_stays_unanswered_is_unknown_once_its_time_is_over(
    cluster: MockCluster, group_metadata: Any, late_commit: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {"transaction.timeout.ms": 1000, "message.timeout.ms": 900, "socket.timeout.ms": 500}
    producer = new_producer(cluster, **times)
    monkeypatch.setattr(producer_module, "SLICE_SECONDS", 0.2)
    late_commit.append(5000)
    end, met = publish(producer, group_metadata)
    assert end is End.UNKNOWN
    assert {line["kind"] for line in met} == {ErrorKind.RETRIABLE}
    assert producer.tainted()


def test_slow_commit_taints_although_it_succeeds(
    cluster: MockCluster, group_metadata: Any, late_commit: list[int]
) -> None:
    producer = new_producer(cluster, **{"socket.timeout.ms": 1000})
    late_commit.append(600)
    assert publish(producer, group_metadata) == (End.COMMITTED, [])
    assert producer.tainted() == "commit slow"


def test_broker_connection_that_breaks_between_two_transactions_taints(
    cluster: MockCluster, group_metadata: Any
) -> None:
    producer = new_producer(cluster)
    assert publish(producer, group_metadata) == (End.COMMITTED, [])
    cluster.answer(Request.PRODUCE, [KafkaError._TRANSPORT])  # the mock closes the connection instead of answering
    publish(producer, group_metadata)
    assert producer.tainted() in {"fail", "state"}


def test_error_that_is_not_librdkafkas_is_unknown_too(
    cluster: MockCluster, group_metadata: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(name: str) -> None:
        if name == "examined:offsets_sent":
            raise RuntimeError("a bug")

    producer = new_producer(cluster)
    monkeypatch.setattr(failpoints, "point", burst)
    end, met = publish(producer, group_metadata)
    assert (end, met[0]["kind"], met[0]["error"]) == (End.UNKNOWN, ErrorKind.UNFLAGGED, "RuntimeError")
    assert producer.tainted()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, ErrorKind.FATAL),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ErrorKind.FATAL),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, ErrorKind.FATAL),
        (KafkaError.PRODUCER_FENCED, ErrorKind.FATAL),
        (KafkaError.INVALID_PRODUCER_EPOCH, ErrorKind.FATAL),
    ],
    ids=shown,
)
def test_initialisation_that_is_refused_needs_a_new_producer(cluster: MockCluster, error: int, kind: ErrorKind) -> None:
    cluster.answer(Request.INIT_PRODUCER_ID, [error])
    with pytest.raises(KafkaException) as refused:
        new_producer(cluster)
    cause = kafka_error(refused.value)
    assert cause is not None
    assert classify(cause) is kind
    assert is_fenced(cause) is (error in {KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


@pytest.mark.parametrize(
    "error", [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, KafkaError.INVALID_PRODUCER_EPOCH], ids=shown
)
def test_acknowledging_producer_outlives_a_fatal_error(cluster: MockCluster, error: int) -> None:
    settings = KafkaSettings(kafka_bootstrap=cluster.bootstrap, registry_url="http://127.0.0.1:1")
    producer = AckedProducer(settings.kafka)
    producer.produce(PLAN.records, timeout_seconds=5)
    cluster.answer(Request.PRODUCE, [error])
    with pytest.raises(Unacknowledged, match="Broker: "):
        producer.produce(PLAN.records, timeout_seconds=5)
    producer.produce(PLAN.records, timeout_seconds=5)
    producer.close()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"fatal": True, "txn_requires_abort": True, "retriable": True}, ErrorKind.FATAL),
        ({"txn_requires_abort": True, "retriable": True}, ErrorKind.ABORTABLE),
        ({"retriable": True}, ErrorKind.RETRIABLE),
        ({}, ErrorKind.UNFLAGGED),
    ],
)
def test_fatal_wins_over_abortable_wins_over_retriable(flags: dict[str, bool], kind: ErrorKind) -> None:
    assert classify(KafkaError(KafkaError.UNKNOWN, "made by hand", **flags)) is kind


def test_exception_from_elsewhere_holds_no_kafka_error() -> None:
    assert kafka_error(ValueError("no")) is None
    assert kafka_error(KafkaException("text alone")) is None
