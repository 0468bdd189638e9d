"""What the loop does when the broker names a wrong address for a coordinator: it recovers, long before the watchdog.

Client and loop are real; the broker is librdkafka's mock cluster behind a proxy that gives the wrong answer.
"""

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import confluent_kafka
import pytest
import structlog
from confluent_kafka import KafkaError, TopicPartition

from chaos.wire.proxy import FIND_COORDINATOR, KafkaProxy
from chaos.wire.relay import Direction
from common.config import KafkaSettings
from common.kafka.members import member_options, writer_options
from common.telemetry import RUNTIME
from common.topics import INVENTORY
from onceloop import bounded_call
from onceloop import transactional as transactional_loop
from onceloop.errors import FatalError
from onceloop.health import LIVE_WITHIN_SECONDS, Health
from onceloop.kafka import transactional_producer as producer
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.transactional_producer import TransactionalProducer
from onceloop.lifecycle import Stop
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish, next_offsets
from tests.mock_cluster import MockCluster, Request
from tests.records import wait_for

pytestmark = pytest.mark.own_process

RECORDS = 10
PRODUCER, CONSUMER = "producer", "consumer"


class Repeat:
    """A step that answers each record with itself, and counts what is committed."""

    limit = RECORDS

    def __init__(self) -> None:
        self.done = 0

    def decide(self, batch: Sequence[InputRecord]) -> Publish:
        records = [OutputRecord("out", record.key, record.value) for record in batch]
        return Publish(records=records, offsets=next_offsets(batch))

    def pending(self) -> bool:
        return False

    def settled(self, published: Publish) -> None:
        self.done += len(published.records)

    def narrow(self) -> None: ...

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None: ...

    def ready(self) -> bool:
        return True


class Beats(Health):
    """Remembers the longest time between two moves of the loop."""

    longest_seconds = 0.0

    def beat(self) -> None:
        self.longest_seconds = max(self.longest_seconds, self.idle_seconds())
        super().beat()


class Loop:
    """The loop in a thread of its own, its clients distinguished by their ids."""

    def __init__(self, settings: KafkaSettings) -> None:
        consuming = {
            **member_options(settings, INVENTORY, slot=0),
            "client.id": CONSUMER,
        }
        producing = {
            **writer_options(settings, INVENTORY, slot=0),
            "client.id": PRODUCER,
        }
        self.step, self.health, self.stop = Repeat(), Beats(), Stop()
        self.failed: BaseException | None = None
        self._consumer = GroupConsumer(consuming, ["in"], service="inventory", runtime=RUNTIME)
        self.producers = 0
        self._producing = producing
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the loop does not stop"

    def _build(self) -> TransactionalProducer:
        self.producers += 1
        return TransactionalProducer(self._producing, service="inventory", runtime=RUNTIME)

    def _run(self) -> None:
        try:
            transactional_loop.run(
                self.step,
                consumer=self._consumer,
                build_producer=self._build,
                stop=self.stop,
                health=self.health,
                service="inventory",
                runtime=RUNTIME,
            )
        except FatalError as error:
            self.failed = error


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockCluster]:
    """Return a cluster that is not closed while calls hang: they hold clients of it."""
    monkeypatch.setattr(bounded_call, "_stuck", [])
    made = MockCluster()
    group = INVENTORY.within("wrong")
    operator = confluent_kafka.Consumer({"bootstrap.servers": made.bootstrap, "group.id": group})
    operator.commit(offsets=[TopicPartition("in", 0, 0)], asynchronous=False)
    operator.close()
    load(made)
    yield made
    if not bounded_call._stuck:
        made.close()


def load(cluster: MockCluster) -> None:
    writer = confluent_kafka.Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(RECORDS):
        writer.produce("in", str(number))
    assert writer.flush(10) == 0


@pytest.fixture
def proxy(cluster: MockCluster) -> Iterator[KafkaProxy]:
    with KafkaProxy(cluster.bootstrap) as proxy:
        yield proxy
        proxy.cut()


@pytest.fixture
def settings(proxy: KafkaProxy) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=proxy.address, registry_url="http://127.0.0.1:1", namespace="wrong")


@pytest.fixture
def nowhere() -> Iterator[socket.socket]:
    """Return a socket that holds a port; until it listens, connections are refused, and then not answered."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


@pytest.mark.parametrize("listens", [False, True], ids=["refused", "unanswered"])
def test_call_that_forgot_its_time_out_costs_a_producer_and_no_process(
    proxy: KafkaProxy, settings: KafkaSettings, nowhere: socket.socket, *, listens: bool
) -> None:
    """Fault: the producer is once given an address of the group's coordinator where no process listens.

    `send_offsets_to_transaction` then waits for ever, also when the broker answers well again: only the watchdog ended
    that, after 80 s. Must hold: the loop lets go of the producer within seconds, and the next one commits.
    """
    if listens:
        nowhere.listen()
    proxy.misdirected[PRODUCER] = nowhere.getsockname()[1]
    with structlog.testing.capture_logs() as logs, Loop(settings) as loop:
        wait_for(lambda: any(line["event"] == "transaction.unsure" for line in logs), what="a call that is given up")
        proxy.misdirected.clear()
        wait_for(lambda: loop.step.done >= RECORDS, what="the records committed")
    assert loop.failed is None
    assert "Unanswered" in {line["error"] for line in logs if line["event"] == "transaction.unsure"}
    assert loop.health.longest_seconds < LIVE_WITHIN_SECONDS


def test_calls_that_never_return_end_the_process_before_they_are_many(
    proxy: KafkaProxy, settings: KafkaSettings, nowhere: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps a thread and a client. Must hold: a new process takes up without them, and the reason is reported."""
    monkeypatch.setattr(producer, "RETURN_SECONDS", 2.5)
    proxy.misdirected[PRODUCER] = nowhere.getsockname()[1]
    with Loop(settings) as loop:
        wait_for(lambda: loop.failed is not None, seconds=40, what="the end of the loop")
    assert isinstance(loop.failed, FatalError)
    assert f"{bounded_call.STUCK_MAX + 1} calls of the Kafka client have not returned" in loop.failed.message


def test_producer_that_cannot_take_its_slot_makes_room_for_another_one(
    cluster: MockCluster, settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: every answer to InitProducerId is "later". Must hold: no client is trusted for ever; then all goes on."""
    monkeypatch.setattr(transactional_loop, "INITIALISE_SECONDS", 1.0)
    cluster.answer(Request.INIT_PRODUCER_ID, [KafkaError.COORDINATOR_LOAD_IN_PROGRESS] * 10_000)
    with Loop(settings) as loop:
        wait_for(lambda: loop.producers > 1, what="another producer")
        cluster.forgive()
        wait_for(lambda: loop.step.done >= RECORDS, what="the records committed")
    assert loop.failed is None


def test_member_that_seeks_its_coordinator_where_it_is_not_ends_and_a_new_one_reads_on(
    cluster: MockCluster, proxy: KafkaProxy, settings: KafkaSettings, nowhere: socket.socket
) -> None:
    """Fault: the consumer is given a wrong address, once; all later answers are right, and the client uses none.

    It stood outside of its group for good, moving and not ready. Must hold: it ends and says why; a new one goes on.
    """
    with Loop(settings) as loop:
        wait_for(lambda: loop.step.done >= RECORDS, what="the records committed")
        asked = proxy.kinds(Direction.RESPONSE, client=CONSUMER).count(FIND_COORDINATOR)
        proxy.misdirected[CONSUMER] = nowhere.getsockname()[1]
        proxy.cut()
        wait_for(
            lambda: proxy.kinds(Direction.RESPONSE, client=CONSUMER).count(FIND_COORDINATOR) > asked,
            what="the wrong answer",
        )
        proxy.misdirected.clear()
        load(cluster)
        wait_for(
            lambda: loop.failed is not None or loop.step.done >= 2 * RECORDS, seconds=40, what="the end of the loop"
        )
    assert isinstance(loop.failed, FatalError)
    assert f"is sought at 127.0.0.1:{nowhere.getsockname()[1]}" in loop.failed.message
    with Loop(settings) as again:
        wait_for(lambda: again.step.done >= RECORDS, what="the rest")
