"""What Kafka Connect copies is what the topics say, whatever is killed or copied again.

One worker serves the whole module, in another time zone than the database. It flushes offsets only when it is stopped
in order, so that every kill falls between a put and the flush.
"""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import pytest
import sqlalchemy as sa

from audit.sinks import Comparison, compare_sinks
from common.events.codec import Codec
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.volume import MinuteVolume, minute_name
from common.topics import (
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    MESSAGE_BYTES_MAX,
    MINUTE_VOLUMES,
    SINKS,
    Sink,
)
from deploy.local.servers import connect_status
from deploy.provision import connectors
from tests import mongo as mongodb
from tests.connect import NO_MONGO, Worker, checker_settings, put_sinks, running_connect
from tests.factories import make_order
from tests.pipeline import Pipeline, open_pipeline
from tests.records import codec_of, read, transactional_producer, write
from tests.records import wait_for as wait_for_within
from tests.stack import Stack

pytestmark = pytest.mark.xdist_group("connect")

PLACED_AT_MS = 1_762_000_000_123
MINUTE = 1_762_000_020_000
ORDERS = 40
RESERVED, FAILED, VOLUME = (sink for sink in SINKS if sink.store == "postgres")


def wait_for(condition: Callable[[], bool], *, what: str) -> None:
    wait_for_within(condition, seconds=60, what=what)  # a deadline, not a time: two virtual machines start here


class Sinks:
    """A pipeline's topics, the worker that copies them, the tables."""

    def __init__(self, pipeline: Pipeline, worker: Worker) -> None:
        self.pipeline, self.worker = pipeline, worker
        self.codec: Codec = codec_of(pipeline)

    def compared(self, *, seconds: float = 60) -> tuple[Comparison, ...]:
        return compare_sinks(checker_settings(self.pipeline), wait_seconds=seconds)

    def assert_equal(self) -> None:
        differences = {each.table: each.differences[:3] for each in self.compared() if each.differences}
        assert differences == {}, self.lines()

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with self.pipeline.administer() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def change(self, statement: str) -> None:
        with self.pipeline.administer() as connection:
            connection.execute(sa.text(statement))

    def lines(self) -> list[str]:
        return list(connect_status.lines(tuple(self.worker.connectors().values()), "http://connect"))

    def connector(self, sink: Sink) -> str:
        return connectors.name_within(sink, self.pipeline.namespace)

    def call(self, method: str, sink: Sink, action: str) -> tuple[int, str]:
        return self.worker.call(method, f"/connectors/{self.connector(sink)}/{action}")

    def flushed(self, sink: Sink) -> int:
        """Return how many records the sink's group has committed."""
        status, answer = self.call("GET", sink, "offsets")
        assert status == 200, answer
        return sum(each["offset"]["kafka_offset"] for each in json.loads(answer)["offsets"])

    def copy_again(self, sink: Sink) -> None:
        """Follow the recipe of docs/connect.md."""
        assert self.call("PUT", sink, "stop")[0] == 204
        wait_for(lambda: self.worker.connectors()[self.connector(sink)].state == "STOPPED", what="the stop")
        status, answer = self.call("DELETE", sink, "offsets")
        assert status == 200, answer
        assert self.call("PUT", sink, "resume")[0] == 202

    def reserved(self) -> InventoryReserved:
        order = make_order(placed_at_ms=PLACED_AT_MS)
        return InventoryReserved(
            make_order().order_id, order.order_id, order.user_id, order.lines, order.placed_at_ms, PLACED_AT_MS + 5
        )

    def failed(self) -> InventoryFailed:
        order = make_order(placed_at_ms=PLACED_AT_MS)
        return InventoryFailed(
            event_id=make_order().order_id,
            order_id=order.order_id,
            user_id=order.user_id,
            lines=order.lines,
            reason=Reason.INSUFFICIENT_STOCK,
            sku="tea",
            requested=2,
            available=1,
            placed_at_ms=order.placed_at_ms,
            decided_at_ms=PLACED_AT_MS + 5,
        )

    def volume(self, orders: int, *, revision: int, minute: int = MINUTE) -> tuple[bytes, bytes]:
        total = MinuteVolume(minute, orders, orders, 0, 2 * orders, 0, revision)
        return minute_name(minute).encode(), self.codec.encode(total)

    def write_reserved(self, count: int = ORDERS, *, partition: int = -1) -> None:
        values = [self.codec.encode(self.reserved()) for _ in range(count)]
        write(self.pipeline, INVENTORY_RESERVED, [(b"ada", value) for value in values], partition=partition)


@pytest.fixture(scope="module")
def mongo(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--mongo"))


@pytest.fixture(scope="module")
def sinks(servers: Stack, tmp_path_factory: pytest.TempPathFactory, mongo: str) -> Iterator[Sinks]:
    logs, folder = tmp_path_factory.mktemp("connect-pipeline"), tmp_path_factory.mktemp("connect")
    with (
        open_pipeline(servers, logs=logs) as pipeline,
        running_connect(servers, folder, namespace=pipeline.namespace, mongo=mongo or NO_MONGO) as worker,
    ):
        put_sinks(worker, pipeline)
        made = Sinks(pipeline, worker)
        producer = transactional_producer(pipeline)
        for end, event in ((producer.abort_transaction, made.reserved()), (producer.commit_transaction, made.failed())):
            producer.begin_transaction()
            topic = INVENTORY_RESERVED if isinstance(event, InventoryReserved) else INVENTORY_FAILED
            producer.produce(topic.within(pipeline.namespace), made.codec.encode(event), b"ada")
            producer.flush(10)
            end(10)
        made.write_reserved()
        write(pipeline, MINUTE_VOLUMES, [made.volume(3, revision=1), made.volume(5, revision=2)])
        made.assert_equal()
        yield made


def test_rows_are_what_the_topics_say_and_an_aborted_record_is_none(sinks: Sinks) -> None:
    compared = sinks.compared()
    assert [(each.table, each.differences) for each in compared] == [
        ("analytics.reserved", ()),
        ("analytics.failed", ()),
        ("analytics.order_volume", ()),
    ]
    assert [each.rows for each in compared][1:] == [1, 1]
    assert compared[0].rows >= ORDERS


def test_times_are_right_though_the_worker_lives_in_another_zone(sinks: Sinks) -> None:
    """Red without the connector's `SET TIME ZONE`: four or five hours off, in silence."""
    (row,) = sinks.rows("SELECT placed_at AT TIME ZONE 'UTC', pg_typeof(placed_at)::text FROM analytics.failed LIMIT 1")
    assert (str(row[0]), row[1]) == ("2025-11-01 12:26:40.123000", "timestamp with time zone")


def test_what_is_put_but_not_flushed_when_connect_is_killed_is_put_again_and_changes_nothing(sinks: Sinks) -> None:
    """Aim: exactly-once effect. Fault: SIGKILL of the worker while its rows are committed and its offsets are not.

    Must hold: it comes back by itself, puts all of them a second time, and the tables are as they were.
    """
    content = "SELECT * FROM analytics.reserved ORDER BY order_id"
    before = sinks.rows(content)
    assert len(before) > sinks.flushed(RESERVED), "the kill falls between put and flush"
    (last,) = sinks.rows("SELECT max(xmin::text::bigint) FROM analytics.reserved")
    sinks.worker.kill()
    sinks.worker.start()
    again = "SELECT count(*) FROM analytics.reserved WHERE xmin::text::bigint > :last"
    wait_for(lambda: sinks.rows(again.replace(":last", str(last[0])))[0][0] == len(before), what="the second put")
    assert sinks.rows(content) == before
    sinks.assert_equal()


def test_a_damaged_table_is_reported_and_copying_again_mends_it(sinks: Sinks, tmp_path: Path) -> None:
    """Aim: `pipeline verify --sinks` and the recipe. Fault: a row is altered, another is gone."""
    altered, gone = sinks.rows("SELECT order_id::text FROM analytics.reserved ORDER BY 1 LIMIT 2")
    sinks.change(f"UPDATE analytics.reserved SET user_id = 'eve' WHERE order_id = '{altered[0]}'")  # noqa: S608
    sinks.change(f"DELETE FROM analytics.reserved WHERE order_id = '{gone[0]}'")  # noqa: S608
    answer = verify(sinks.pipeline, tmp_path, wait=0)
    assert answer.returncode == 1
    assert f"analytics.reserved {altered[0]} has user_id 'eve' instead of 'ada'" in answer.stdout
    assert f"analytics.reserved {gone[0]} is not in the table; inventory.reserved" in answer.stdout

    sinks.copy_again(RESERVED)
    answer = verify(sinks.pipeline, tmp_path, wait=60)
    assert (answer.returncode, answer.stderr) == (0, ""), sinks.lines()


def test_a_copy_of_the_minutes_from_zero_never_shows_an_older_total(sinks: Sinks) -> None:
    """Aim: the trigger. Fault: all revisions of a minute are put again, the oldest first.

    Must hold: once a later minute is there all were put, and the row of the earlier one was never rewritten by less.
    """
    write(sinks.pipeline, MINUTE_VOLUMES, [sinks.volume(9, revision=1, minute=MINUTE + 60_000)])
    sinks.assert_equal()
    sinks.change("UPDATE analytics.order_volume SET revision = 100, orders = 77 WHERE revision = 2")
    sinks.change("DELETE FROM analytics.order_volume WHERE revision = 1")
    sinks.copy_again(VOLUME)
    wait_for(lambda: len(sinks.rows("SELECT * FROM analytics.order_volume")) == 2, what="the later minute")
    assert sinks.rows("SELECT orders FROM analytics.order_volume WHERE revision = 100") == [(77,)]
    sinks.change("DELETE FROM analytics.order_volume")
    sinks.copy_again(VOLUME)
    sinks.assert_equal()


def test_a_record_that_cannot_be_read_becomes_a_dead_letter_that_says_why__the_largest_too(sinks: Sinks) -> None:
    small, largest = b"\x07 no event", random.Random(28).randbytes(MESSAGE_BYTES_MAX - 200)
    topic = INVENTORY_RESERVED.within(sinks.pipeline.namespace)
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": sinks.pipeline.kafka.kafka_bootstrap, "message.max.bytes": MESSAGE_BYTES_MAX}
    )
    for value in (small, largest):
        producer.produce(topic, value, b"ada")
    assert producer.flush(20) == 0
    sinks.write_reserved(1)
    sinks.assert_equal()
    wait_for(lambda: len(read(sinks.pipeline, RESERVED.dead_letters)) == 2, what="the dead letters")
    letters = read(sinks.pipeline, RESERVED.dead_letters)
    assert {letter.value for letter in letters} == {small, largest}
    for letter in letters:
        assert letter.key == b"ada"
        assert letter.headers["__connect.errors.topic"].decode() == topic
        assert letter.headers["__connect.errors.stage"] == b"VALUE_CONVERTER"
        assert letter.headers["__connect.errors.exception.message"]


def test_connections_that_break_are_made_again(sinks: Sinks) -> None:
    """Fault: the server ends every session of the sinks, as a fail-over does."""
    sinks.change("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'connect_rw'")
    sinks.write_reserved(3)
    sinks.assert_equal()


def test_a_connector_that_failed_is_reported_with_the_cure_and_provisioning_sets_it_going(sinks: Sinks) -> None:
    """Fault: the table is not there. Must hold: nothing is skipped; once it is back, both records are in it.

    The connector keeps an error to itself until the next record comes.
    """
    name = sinks.connector(FAILED)
    sinks.change("ALTER TABLE analytics.failed RENAME TO elsewhere")
    try:
        for happened in (
            lambda: "Failed to process record" in sinks.worker.log,
            lambda: sinks.worker.connectors()[name].state == connect_status.FAILED,
        ):
            write(sinks.pipeline, INVENTORY_FAILED, [(b"ada", sinks.codec.encode(sinks.failed()))])
            wait_for(happened, what="the failure")
    finally:
        sinks.change("ALTER TABLE analytics.elsewhere RENAME TO failed")
    answer = "\n".join(sinks.lines())
    assert f"connector {name}" in answer
    assert "error: org.apache.kafka.connect.errors.ConnectException" in answer
    assert f"/connectors/{name}/restart" in answer
    assert put_sinks(sinks.worker, sinks.pipeline) == (name,)
    sinks.assert_equal()
    assert put_sinks(sinks.worker, sinks.pipeline) == ()


def test_no_password_is_shown_over_rest_or_in_the_log(sinks: Sinks) -> None:
    password = sinks.pipeline.postgres("connect_rw").postgres_password.get_secret_value()
    _, answer = sinks.worker.call("GET", "/connectors?expand=info&expand=status")
    assert ":connect_rw}" in answer, "the configuration points to the file"
    assert password not in answer
    assert password not in sinks.worker.log


@pytest.mark.parametrize("sink", [sink for sink in SINKS if sink.store == "mongo"], ids=lambda sink: sink.group.name)
def test_connect_takes_the_mongo_configurations_all_but_for_the_server_that_is_not_there(
    sinks: Sinks, sink: Sink, mongo: str
) -> None:
    settings = sinks.worker.settings(sinks.pipeline, connect_stores="mongo")
    configuration = connectors.wanted(settings)[sinks.connector(sink)]
    assert complaints(sinks, configuration) == (set() if mongo else {"connection.uri"})
    wrong = {**configuration, "writemodel.strategy": "no class name"}
    assert "writemodel.strategy" in complaints(sinks, wrong), "whatever else is wrong is reported"


def complaints(sinks: Sinks, configuration: dict[str, str]) -> set[str]:
    """Return the options that the worker and the plugin take exception to."""
    kind = configuration["connector.class"].rpartition(".")[2]
    status, answer = sinks.worker.call(
        "PUT", f"/connector-plugins/{kind}/config/validate", {**configuration, "name": "validated"}
    )
    assert status == 200, answer
    return {each["value"]["name"] for each in json.loads(answer)["configs"] if each["value"]["errors"]}


def test_documents_are_replaced_and_never_doubled_when_they_are_copied_again(sinks: Sinks, mongo: str) -> None:
    if not mongo:
        pytest.skip("no --mongo URI given")
    reserved = next(sink for sink in SINKS if sink.group.name == "mongo-reserved")

    def documents() -> dict[str, mongodb.Document]:
        found = mongodb.find(mongo, sinks.pipeline.settings.database, "reserved")
        assert [each["_id"] for each in found] == [{"order_id": each["order_id"]} for each in found]
        return {each["order_id"]: each for each in found}

    def wait_for_copies() -> None:
        due = {str(order_id) for (order_id,) in sinks.rows("SELECT order_id::text FROM analytics.reserved")}
        wait_for(lambda: documents().keys() >= due, what="the documents")

    put_sinks(sinks.worker, sinks.pipeline, stores="mongo")
    wait_for_copies()
    before = documents()
    sinks.copy_again(reserved)
    # Once the last record of every partition is there, all before it were put a second time.
    for partition in range(INVENTORY_RESERVED.partitions):
        sinks.write_reserved(1, partition=partition)
    sinks.assert_equal()
    wait_for_copies()
    assert {order_id: documents()[order_id] for order_id in before} == before
    assert next(iter(before.values()))["lines"]["0"] == {"sku": "tea", "quantity": 1}


def verify(pipeline: Pipeline, folder: Path, *, wait: float) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder that has no stack, so that the environment says where to look."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", "verify", "--sinks", "--wait", str(wait)],
        env={**pipeline.env("checker"), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
