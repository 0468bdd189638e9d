"""The checker on real topics and tables: it passes what is sound, live too, and names what is not."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import confluent_kafka
import pytest

from audit import scene
from audit import whole as auditing
from audit.errors import StoreDownError
from audit.readers.collector import Collector, Record
from audit.readers.evidence import Evidence
from audit.readers.second_reading import Census, digest_of
from audit.rules.judge import Judgement
from audit.whole import Auditor, audit
from common.topics import INVENTORY_RESERVED, ORDERS_CREATED, Topic
from tests.audits import broken, copy_event, execute, inventory, process, settings_of, verdict
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import read, write, write_orders


def test_books_of_a_real_run_are_sound(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 30, "mug": 0})
    twice = make_order()
    orders = [make_order(lines=[("tea", 2), ("cup", 1)] if n % 5 == 0 else [("tea", 1)]) for n in range(40)]
    with inventory(pipeline):
        write_orders(pipeline, [*orders, twice])
        write_orders(pipeline, [twice, make_order(lines=[("mug", 1)])])
        write(pipeline, ORDERS_CREATED, [(b"ada", b"garbage"), (None, None)])
        judgement = verdict(pipeline, restocked=False)

    assert broken(judgement) == {}
    assert judgement.counts["orders"] == 42
    assert judgement.counts["records"] == 45
    assert judgement.counts["reserved"] == 30
    assert judgement.counts["failed"] == 12
    assert judgement.counts["dead_letters"] == 2


def test_a_live_system_is_judged_soundly(pipeline: Pipeline) -> None:
    """Aim: whatever is in flight is not taken for a fault. Orders go in all the time while the checker reads."""
    pipeline.set_stock({"tea": 100_000})
    stop = threading.Event()
    written: list[int] = []

    def load() -> None:
        while not stop.is_set():
            write_orders(pipeline, [make_order() for _ in range(20)])
            written.append(20)

    with inventory(pipeline):
        loading = threading.Thread(target=load)
        loading.start()
        try:
            judgements = [verdict(pipeline) for _ in range(8)]
        finally:
            stop.set()
            loading.join()

    assert [broken(judgement) for judgement in judgements] == [{}] * 8
    assert judgements[0].counts["orders"] < judgements[-1].counts["orders"] <= sum(written)


def test_an_order_without_outcome_is_named_after_the_wait(pipeline: Pipeline) -> None:
    order = make_order()
    write_orders(pipeline, [order])

    judgement = verdict(pipeline, wait_seconds=0.5)

    (at,) = [f"orders.created {seen.partition}@{seen.offset}" for seen in read(pipeline, ORDERS_CREATED)]
    assert broken(judgement) == {"L1": [f"no outcome in time: the inventory has not read {at}"]}
    assert judgement.paths[order.order_id][0] == f"record     {at}"


def test_an_auditor_that_goes_on_where_it_stood_judges_everything(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aim: a record is read once, a fault among those read long ago is found all the same."""
    pipeline.set_stock({"tea": 100})
    taken: list[Record] = []
    take = Collector.take

    def noted(self: Collector, record: Record) -> None:
        taken.append(record)
        take(self, record)

    monkeypatch.setattr(Collector, "take", noted)
    first, second = make_order(), make_order()
    with Auditor(settings_of(pipeline)) as auditor:
        process(pipeline, [first])
        judgements = [auditor.audit(wait_seconds=10, followers=False)]
        write_orders(pipeline, [second])
        with inventory(pipeline):
            judgements.append(auditor.audit(wait_seconds=10, followers=False))
        execute(pipeline, "DELETE FROM inventory.decision WHERE order_id = :first", first=first.order_id)
        judgements.append(auditor.audit(wait_seconds=0, followers=False))
        read_once = len(taken)
        judgements.append(auditor.audit(wait_seconds=0, followers=False, evidence=Evidence(reread=True)))

    assert [judgement.counts["orders"] for judgement in judgements] == [1, 2, 2, 2]
    assert [sorted(broken(judgement)) for judgement in judgements] == [[], [], ["S6", "S7"], ["S6", "S7"]]
    assert (read_once, len(taken)) == (4, 8)


def test_an_auditor_reads_again_after_a_store_was_down(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.set_stock({"tea": 100})
    process(pipeline, [make_order()])
    with Auditor(settings_of(pipeline)) as auditor:
        with monkeypatch.context() as planted:
            planted.setattr("audit.readers.tables.DECISIONS", "SELECT * FROM nowhere")
            with pytest.raises(StoreDownError):
                auditor.audit(wait_seconds=0, followers=False)
        judgement = auditor.audit(wait_seconds=0, followers=False)

    assert judgement.counts["orders"] == 1
    assert broken(judgement) == {}


def test_an_event_that_stands_twice_is_caught_and_its_path_shown(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    order = make_order()
    process(pipeline, [order, make_order()])
    (seen,) = [seen for seen in read(pipeline, INVENTORY_RESERVED) if order.order_id.encode() in (seen.value or b"")]
    copy_event(pipeline, seen, topic=INVENTORY_RESERVED)

    judgement = verdict(pipeline)

    assert broken(judgement) == {"S5": ["2 events instead of one"]}
    assert sum(line.startswith("event ") for line in judgement.paths[order.order_id]) == 2


FAULTS = (
    ("UPDATE inventory.stock SET available = available - 1 WHERE sku = 'tea'", "S6", "7 available and 2 reserved"),
    ("DELETE FROM inventory.stock WHERE sku = 'mug'", "S6", "mug: 1 reserved of a SKU that has no stock row"),
    ("UPDATE inventory.decision SET event = event || '!'::bytea WHERE order_id = :first", "S7", "its bytes are not"),
    ("UPDATE inventory.decision SET event_id = order_id WHERE order_id = :first", "S7", "but decided as"),
    ("UPDATE inventory.decision SET partition = partition + 1 WHERE order_id = :first", "S7", "the owner is"),
    ("UPDATE inventory.decision SET qtys = ARRAY[2] WHERE order_id = :first", "S7", "other lines than were ordered"),
    ("DELETE FROM inventory.decision WHERE order_id = :second", "S7", "an event without a decision"),
    (
        """
        INSERT INTO orders.idempotency_key (user_id, key, fingerprint, order_id, event, acknowledged_at)
        VALUES ('ada', 'k1', '', gen_random_uuid(), '', now())
        """,
        "S1",
        "confirmed to the client, but not on orders.created",
    ),
    (
        """
        INSERT INTO orders.idempotency_key (user_id, key, fingerprint, order_id, event, acknowledged_at)
        VALUES ('ada', 'k2', '', :first, 'other bytes', now())
        """,
        "S1",
        "not what is stored with its key",
    ),
    (
        """
        INSERT INTO notification.ledger (order_id, kind, channel, event_id, user_id, state, message_id)
        VALUES (:first, 'order_confirmed', 'log', gen_random_uuid(), 'ada', 'claimed', '<m@x>')
        """,
        "S9",
        "which does not exist",
    ),
    (
        """
        INSERT INTO orders.order_status (order_id, user_id, status, reason, decided_at)
        VALUES (:first, 'ada', 'failed', 'other', now())
        """,
        "S17",
        "status failed, but the order is reserved",
    ),
)


def test_faults_planted_in_the_tables_are_caught_one_after_the_other(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10, "mug": 10})
    orders = [make_order(), make_order(), make_order(lines=[("mug", 1)])]
    process(pipeline, orders)
    found = broken(verdict(pipeline))
    assert found == {}

    for statement, rule, complaint in FAULTS:
        assert complaint not in str(found)
        execute(pipeline, statement, first=orders[0].order_id, second=orders[1].order_id)
        found = broken(verdict(pipeline))
        assert complaint in str(found[rule])


def test_a_record_that_is_no_event_is_caught_on_an_outcome_topic(pipeline: Pipeline) -> None:
    write(pipeline, INVENTORY_RESERVED, [(b"ada", b"garbage")])

    assert set(broken(verdict(pipeline))) == {"S15"}


def test_the_wait_does_not_ask_for_what_no_reader_sees(pipeline: Pipeline) -> None:
    """Behind the last order stands what a foreign transaction left: an aborted record and a marker."""
    pipeline.set_stock({"tea": 10})
    order = make_order()
    process(pipeline, [order])
    (at,) = [seen.partition for seen in read(pipeline, ORDERS_CREATED)]
    with transaction(pipeline, topic=ORDERS_CREATED, partition=at) as producer:
        producer.abort_transaction(10)

    assert broken(verdict(pipeline, wait_seconds=0)) == {}


def test_what_a_transaction_aborted_is_not_there(pipeline: Pipeline) -> None:
    with transaction(pipeline) as producer:
        producer.abort_transaction(10)

    assert broken(verdict(pipeline)) == {}


def test_a_transaction_that_no_process_ends_holds_readers_up(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "STALL_SECONDS", 1.0)
    with transaction(pipeline) as producer:
        judgement = verdict(pipeline)
        producer.abort_transaction(10)

    assert set(broken(judgement)) == {"L2"}


def test_the_broker_s_own_word_names_an_open_transaction(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aim: the watermarks are a witness of their own. The reader's word for a stall is taken away."""
    monkeypatch.setattr(auditing, "STALL_SECONDS", 1.0)
    monkeypatch.setattr("audit.readers.topics.TopicReader._behind", lambda *_: [])
    with transaction(pipeline) as producer:
        judgement = verdict(pipeline)
        producer.abort_transaction(10)

    assert set(broken(judgement)) == {"L2"}


def test_a_second_reading_by_other_processes_agrees(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 100})
    process(pipeline, [make_order() for _ in range(50)])
    write(pipeline, ORDERS_CREATED, [(b"ada", b"garbage"), (None, None)])
    with transaction(pipeline, topic=ORDERS_CREATED) as producer:
        producer.abort_transaction(10)

    judgement = reread(pipeline)

    assert [ruling.judged for ruling in judgement.rulings if ruling.invariant == "S9"] == [102]
    assert {rule: len(found) for rule, found in broken(judgement).items()} == {
        "L1": 2
    }  # no worker takes the poison away


def test_what_rests_on_an_aborted_record_is_named(pipeline: Pipeline) -> None:
    """Aim: an event that answers an order which was aborted, as a reader of uncommitted records would write it."""
    pipeline.set_stock({"tea": 10})
    order = make_order()
    process(pipeline, [order])
    with transaction(pipeline, topic=ORDERS_CREATED, partition=0) as producer:
        producer.abort_transaction(10)
    (aborted,) = [
        seen
        for seen in read(pipeline, ORDERS_CREATED, isolation="read_uncommitted")
        if seen.value == b"unseen" and seen.partition == 0
    ]
    (event,) = read(pipeline, INVENTORY_RESERVED)
    headers = {
        **event.headers,
        "origin_partition": str(aborted.partition).encode(),
        "origin_offset": str(aborted.offset).encode(),
    }
    copy_event(pipeline, replace(event, headers=headers), topic=INVENTORY_RESERVED)

    found = broken(reread(pipeline))

    assert any("which was never committed" in what for what in found["S9"])


def reread(pipeline: Pipeline) -> Judgement:
    return audit(settings_of(pipeline), wait_seconds=1, followers=False, evidence=Evidence(reread=True))


def test_two_readings_that_differ_are_distinguished(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aim: one record that the first reading lost, one that it saw otherwise. Planted in its census."""
    write_orders(pipeline, [make_order() for _ in range(3)], partition=0)

    def careless(census: Census, record: Record) -> None:
        if record.at.offset < 2:
            census[record.at] = b"other" if record.at.offset else digest_of(record.key, record.value, record.headers())

    monkeypatch.setattr(scene, "count_in", careless)

    found = broken(reread(pipeline))

    assert found["S9"] == [
        "orders.created 0@1: a second reader sees another record",
        "orders.created 0@2: only a second reader sees this record",
    ]


@contextmanager
def transaction(
    pipeline: Pipeline, *, topic: Topic = INVENTORY_RESERVED, partition: int = 0
) -> Iterator[confluent_kafka.Producer]:
    """Yield a producer whose transaction holds one written record and is open."""
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": pipeline.kafka.kafka_bootstrap, "transactional.id": f"{pipeline.namespace}.stranger"}
    )
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.produce(topic.within(pipeline.namespace), b"unseen", b"ada", partition=partition)
    assert producer.flush(10) == 0
    yield producer


@pytest.mark.parametrize(
    "address",
    [
        {"kafka_bootstrap": "127.0.0.1:1"},
        {"registry_url": "http://127.0.0.1:1"},
        {"postgres_url": "postgresql://checker@127.0.0.1:1/none"},
    ],
    ids=lambda address: next(iter(address)),
)
def test_a_store_that_does_not_answer_is_no_judgement(
    pipeline: Pipeline, address: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.readers.cluster.CALL_SECONDS", 1.0)
    write_orders(pipeline, [make_order()])

    with pytest.raises(StoreDownError):
        audit(settings_of(pipeline, **address), wait_seconds=0, followers=False)
