"""The proxies between real clients and real servers: what they drop, hold and cut, and that nothing goes round them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import confluent_kafka
import psutil
import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from chaos.wire.proxy import (
    ADD_PARTITIONS_TO_TXN,
    COMMIT,
    END_TXN,
    INIT_PRODUCER_ID,
    METADATA,
    PRODUCE,
    KafkaProxy,
    PostgresProxy,
    end_txn_error,
)
from chaos.wire.relay import Action, Direction, Frame
from common.topics import INVENTORY_RESERVED
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import read, wait_for, write_orders

Mode = Callable[[psycopg.Connection], AbstractContextManager[None]]
REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE
QUICK = {"socket.timeout.ms": 1000}
"""Where an answer is lost, or the client shall give up."""
TRANSACTION = {INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, PRODUCE, END_TXN}


@pytest.fixture
def kafka(pipeline: Pipeline) -> Iterator[KafkaProxy]:
    with KafkaProxy(pipeline.kafka.kafka_bootstrap) as proxy:
        yield proxy


@pytest.fixture
def postgres(pipeline: Pipeline) -> Iterator[PostgresProxy]:
    at = urlsplit(pipeline.postgres("inventory_rw").postgres_url)
    with PostgresProxy((str(at.hostname), int(at.port or 5432))) as proxy:
        yield proxy


def producer_of(pipeline: Pipeline, proxy: KafkaProxy | None, **options: Any) -> confluent_kafka.Producer:
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": proxy.address if proxy else pipeline.kafka.kafka_bootstrap,
            "transactional.id": f"{pipeline.namespace}.proxied",
            "transaction.timeout.ms": 10_000,
            "message.timeout.ms": 8000,
            "socket.timeout.ms": 5000,  # a slow answer is not to look like a lost one
            "linger.ms": 0,
            "log_level": 2,
            **options,
        }
    )
    producer.init_transactions(10)
    return producer


def begin(pipeline: Pipeline, producer: confluent_kafka.Producer, value: bytes = b"one") -> None:
    producer.begin_transaction()
    producer.produce(INVENTORY_RESERVED.within(pipeline.namespace), value, b"ada", partition=0)


def visible(pipeline: Pipeline) -> list[bytes | None]:
    return [seen.value for seen in read(pipeline, INVENTORY_RESERVED)]


def transactional(proxy: KafkaProxy, direction: Direction) -> list[int | str]:
    return [kind for kind in proxy.kinds(direction) if kind in TRANSACTION]


def test_requests_pass_in_order_and_are_recorded(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    producer_of(pipeline, None)  # a new broker's coordinator answers its first client "not yet"
    producer = producer_of(pipeline, kafka)
    begin(pipeline, producer)
    producer.commit_transaction(10)

    assert visible(pipeline) == [b"one"]
    expected = [INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, PRODUCE, END_TXN]
    assert transactional(kafka, REQUEST) == expected
    assert transactional(kafka, RESPONSE) == expected
    assert [frame.detail for frame in kafka.seen if frame.kind == END_TXN] == ["commit", ""]


def test_an_aborted_transaction_is_distinguished_from_a_committed_one(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    producer = producer_of(pipeline, kafka)
    begin(pipeline, producer)
    assert producer.flush(10) == 0
    producer.abort_transaction(10)

    assert [frame.detail for frame in kafka.seen if frame.kind == END_TXN] == ["abort", ""]


def test_a_dropped_end_txn_answer_is_hidden_by_a_second_request(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """The client reports success after its socket time-out: that a first copy was sent shows on the wire alone."""
    producer = producer_of(pipeline, kafka, **QUICK)
    dropped = kafka.rule(END_TXN, direction=RESPONSE, action=Action.DROP)
    begin(pipeline, producer)
    started = time.monotonic()
    producer.commit_transaction(10)

    assert time.monotonic() - started >= 1.0, "the socket time-out"
    dropped.wait(0)
    assert transactional(kafka, REQUEST).count(END_TXN) == 2
    assert visible(pipeline) == [b"one"]


def test_a_held_produce_reaches_the_broker_after_its_release(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    producer = producer_of(pipeline, kafka)
    held = kafka.rule(PRODUCE, direction=REQUEST, action=Action.HOLD)
    begin(pipeline, producer)
    assert producer.flush(0.5) == 1
    assert read(pipeline, INVENTORY_RESERVED, isolation="read_uncommitted") == []

    held.release()

    assert producer.flush(5) == 0
    producer.commit_transaction(10)
    assert visible(pipeline) == [b"one"]


def test_a_held_request_arrives_although_its_client_is_gone(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """The late packet: the client gave the connection up long ago, the broker gets what was under way."""
    producer = producer_of(pipeline, kafka, **QUICK)
    held = kafka.rule(PRODUCE, direction=REQUEST, action=Action.HOLD)
    begin(pipeline, producer, b"late")
    held.wait()
    del producer
    assert read(pipeline, INVENTORY_RESERVED, isolation="read_uncommitted") == []

    held.release()

    wait_for(
        lambda: [s.value for s in read(pipeline, INVENTORY_RESERVED, isolation="read_uncommitted")] == [b"late"],
        what="the late record",
    )


def test_a_connection_cut_behind_a_request_lets_the_request_arrive(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """The retry finds its batch written: idempotence makes one record of two requests."""
    producer = producer_of(pipeline, kafka)
    kafka.rule(PRODUCE, direction=REQUEST, action=Action.CUT_AFTER)
    begin(pipeline, producer)
    producer.commit_transaction(10)

    assert transactional(kafka, REQUEST).count(PRODUCE) == 2
    assert transactional(kafka, RESPONSE).count(PRODUCE) == 1
    assert visible(pipeline) == [b"one"]


def test_a_request_that_is_cut_off_never_arrives(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    producer = producer_of(pipeline, kafka, **{"message.timeout.ms": 1000})
    cut = kafka.rule(PRODUCE, direction=REQUEST, action=Action.CUT, times=1000)
    begin(pipeline, producer)

    with pytest.raises(KafkaException):
        producer.commit_transaction(10)

    assert len(cut.frames) > 1, "it tried again"
    assert read(pipeline, INVENTORY_RESERVED, isolation="read_uncommitted") == []


def test_the_nth_request_is_acted_on_and_no_other(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    producer = producer_of(pipeline, kafka, **QUICK)
    second = kafka.rule(END_TXN, direction=RESPONSE, action=Action.DROP, nth=2)
    for value in (b"one", b"two", b"three"):
        begin(pipeline, producer, value)
        producer.commit_transaction(10)

    assert len(second.frames) == 1
    assert transactional(kafka, REQUEST).count(END_TXN) == 4


def test_a_rule_is_called_before_the_frame_passes(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """What kills a process at a request seen on the wire relies on this."""
    producer = producer_of(pipeline, kafka)
    seen_before: list[list[bytes | None]] = []

    def look(_: Frame) -> None:
        seen_before.append(visible(pipeline))

    kafka.rule(END_TXN, direction=REQUEST, action=Action.PASS, then=look)
    begin(pipeline, producer)
    producer.commit_transaction(10)

    assert seen_before == [[]]
    assert visible(pipeline) == [b"one"]


def test_a_stale_end_txn_of_a_rebuilt_producer_is_fenced(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """Why taint ends in a rebuild: the new epoch fences what the old producer still has under way."""
    old = producer_of(pipeline, kafka)
    ended = kafka.rule(END_TXN, direction=REQUEST, action=Action.PASS)
    begin(pipeline, old)
    old.commit_transaction(10)
    del old
    new = producer_of(pipeline, kafka)
    begin(pipeline, new, b"two")
    assert new.flush(10) == 0

    answer = kafka.replay(ended.wait())

    assert end_txn_error(answer) == KafkaError.INVALID_PRODUCER_EPOCH
    assert visible(pipeline) == [b"one"]
    new.commit_transaction(10)
    assert visible(pipeline) == [b"one", b"two"]


def test_known_limit__a_copy_of_an_end_txn_that_comes_late_ends_the_next_transaction_of_a_clean_producer(
    pipeline: Pipeline, kafka: KafkaProxy
) -> None:
    """Protocol V1 has one epoch for all transactions of a producer: the broker takes the copy for the next end.

    Nothing shows on the producer's side: each of its requests was answered, in time, on a connection that stays. If
    this test fails, the client has closed it (transaction protocol V2, KIP-890: an epoch per transaction): take the
    entry "A network that repeats requests" out of "Not promised" in docs/guarantees.md, and assert that the copy is
    refused.
    """
    producer = producer_of(pipeline, kafka)
    ended = kafka.rule(END_TXN, direction=REQUEST, action=Action.PASS)
    begin(pipeline, producer, b"one")
    producer.commit_transaction(10)
    begin(pipeline, producer, b"two")
    assert producer.flush(10) == 0
    assert visible(pipeline) == [b"one"]

    answer = kafka.replay(ended.wait())

    assert end_txn_error(answer) == KafkaError.NO_ERROR, "refused by now: see above"
    wait_for(lambda: visible(pipeline) == [b"one", b"two"], what="a record whose transaction is still open")
    del producer  # killed before it sent offsets: its successor answers the same input again
    successor = producer_of(pipeline, kafka)
    begin(pipeline, successor, b"two")
    successor.commit_transaction(10)
    assert visible(pipeline) == [b"one", b"two", b"two"], "the event stands twice: the limit"


def test_nothing_passes_a_partition_until_it_heals(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    producer = producer_of(pipeline, kafka)
    kafka.partition()
    begin(pipeline, producer)
    assert producer.flush(1) == 1
    assert read(pipeline, INVENTORY_RESERVED, isolation="read_uncommitted") == []

    kafka.heal()

    producer.commit_transaction(10)
    assert visible(pipeline) == [b"one"]


def test_no_connection_of_a_worker_goes_round_the_proxy(pipeline: Pipeline, kafka: KafkaProxy) -> None:
    """Bootstrap, leader, group coordinator, transaction coordinator: the broker's own port is in none of them."""
    pipeline.set_stock({"tea": 10})
    worker = pipeline.start(
        "inventory_service", role="inventory_rw", env={"PIPELINE_KAFKA_BOOTSTRAP": kafka.address}
    ).wait_ready()
    write_orders(pipeline, [make_order()])
    wait_for(lambda: len(visible(pipeline)) == 1, what="the outcome")

    used = [c.raddr.port for c in psutil.Process(worker.pid).net_connections("tcp") if c.raddr]
    assert used.count(kafka.port) >= 2
    assert kafka.upstream[1] not in used
    wait_for(lambda: {METADATA, *TRANSACTION} <= set(kafka.kinds(RESPONSE)), what="all answers on their way")


def connect(pipeline: Pipeline, proxy: PostgresProxy) -> psycopg.Connection:
    settings = pipeline.postgres("inventory_rw")
    at = urlsplit(settings.postgres_url)
    return psycopg.connect(
        settings.postgres_url.replace(f"{at.hostname}:{at.port}", proxy.address),
        password=settings.postgres_password.get_secret_value(),
        application_name="proxied",
        connect_timeout=3,
    )


def take_one(connection: psycopg.Connection) -> None:
    connection.execute("UPDATE inventory.stock SET available = available - 1 WHERE sku = 'tea'")
    connection.commit()


def take_one_in(mode: Mode, connection: psycopg.Connection) -> None:
    with mode(connection):
        take_one(connection)


@contextmanager
def plainly(_: psycopg.Connection) -> Iterator[None]:
    yield


@contextmanager
def pipelined(connection: psycopg.Connection) -> Iterator[None]:
    with connection.pipeline():
        yield


MODES = [plainly, pipelined]


@pytest.mark.parametrize("mode", MODES)
def test_a_connection_cut_before_commit_is_seen_leaves_nothing(
    pipeline: Pipeline, postgres: PostgresProxy, mode: Mode
) -> None:
    pipeline.set_stock({"tea": 10})
    rule = postgres.rule(COMMIT, direction=REQUEST, action=Action.CUT)

    with closing(connect(pipeline, postgres)) as connection, pytest.raises(psycopg.OperationalError):
        take_one_in(mode, connection)

    assert rule.wait().client == "proxied"
    assert pipeline.available() == {"tea": 10}


@pytest.mark.parametrize("mode", MODES)
def test_a_connection_cut_after_commit_leaves_what_its_client_cannot_know(
    pipeline: Pipeline, postgres: PostgresProxy, mode: Mode
) -> None:
    pipeline.set_stock({"tea": 10})
    rule = postgres.rule(COMMIT, direction=RESPONSE, action=Action.CUT)

    with closing(connect(pipeline, postgres)) as connection, pytest.raises(psycopg.OperationalError):
        take_one_in(mode, connection)

    rule.wait()
    assert pipeline.available() == {"tea": 9}


def test_a_prepared_commit_is_known_as_one(pipeline: Pipeline, postgres: PostgresProxy) -> None:
    with closing(connect(pipeline, postgres)) as connection, connection.pipeline():
        for _ in range(3):
            connection.execute("SELECT 1", prepare=True)
            connection.execute("COMMIT", prepare=True)

    assert postgres.kinds(REQUEST).count(COMMIT) == 3
    assert postgres.kinds(RESPONSE).count(COMMIT) == 3


def test_a_black_hole_swallows_a_statement_until_it_heals(pipeline: Pipeline, postgres: PostgresProxy) -> None:
    pipeline.set_stock({"tea": 10})
    with closing(connect(pipeline, postgres)) as connection:
        postgres.partition()
        working = threading.Thread(target=take_one, args=(connection,))
        working.start()
        working.join(0.5)
        assert working.is_alive()
        assert pipeline.available() == {"tea": 10}

        postgres.heal()

        working.join(10)
        assert not working.is_alive()
    assert pipeline.available() == {"tea": 9}
