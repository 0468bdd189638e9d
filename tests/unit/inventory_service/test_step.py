"""How the step takes less while a batch is poison, and when a record alone becomes a dead letter."""

from collections.abc import Iterator, Sequence

import pytest
import structlog
from prometheus_client import REGISTRY

from common.config import PostgresSettings
from common.errors import Poison
from common.kafka.records import CommitPoint, InputRecord, OutputRecord, Partition, Plan
from common.postgres.connection import hot_connection
from inventory_service.io.step import InventoryStep
from tests.factories import make_codec, make_order

INPUT = Partition("blue.orders.created", 3)
DEAD_LETTERS = "blue.orders.created.inventory.dlq"
POISON = Poison("PostgreSQL rejects a value: 23514")


@pytest.fixture
def step() -> Iterator[InventoryStep]:
    """A step whose database is never asked: its connection opens when it is first used."""
    nowhere = PostgresSettings(postgres_url="postgresql://nobody@127.0.0.1:1/nothing")
    with hot_connection(nowhere, application="test") as connection, structlog.testing.capture_logs():
        yield InventoryStep(connection=connection, codec=make_codec(), namespace="blue", batch_records_max=500)


def records(*values: bytes | None, first: int = 7) -> list[InputRecord]:
    return [InputRecord(INPUT, first + index, b"ada", value) for index, value in enumerate(values)]


def committed(letters: Sequence[OutputRecord] = ()) -> Plan:
    return Plan(records=[], offsets={INPUT: CommitPoint(1)}, dead_letters=letters)


def test_limit_halves_while_a_batch_is_poison_and_never_falls_below_one(step: InventoryStep) -> None:
    limits = []
    for _ in range(11):
        limits.append(step.limit)
        step.narrow()
    assert limits == [500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1]


def test_each_success_doubles_the_limit_up_to_its_setting(step: InventoryStep) -> None:
    for _ in range(11):
        step.narrow()
    limits = []
    for _ in range(11):
        limits.append(step.limit)
        step.settled(committed())
    assert limits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500]


def test_poison_among_others_is_never_a_dead_letter__less_is_taken(step: InventoryStep) -> None:
    for _ in range(3):
        with pytest.raises(Poison):
            step._isolate(records(b"a", b"b"), POISON)


def test_record_that_stands_alone_is_a_dead_letter_when_it_fails_the_second_time(step: InventoryStep) -> None:
    (alone,) = records(b"a")
    with pytest.raises(Poison):
        step._isolate([alone], POISON)
    plan = step._isolate([alone], POISON)
    (letter,) = plan.dead_letters
    assert (letter.topic, letter.key, letter.value) == (DEAD_LETTERS, b"ada", b"a")
    assert dict(letter.headers)["dlq_error_class"] == b"database"
    assert (plan.records, plan.offsets) == ([], {INPUT: CommitPoint(8)})


def test_two_records_that_fail_once_each_are_no_dead_letters(step: InventoryStep) -> None:
    one, other = records(b"a", b"b")
    for record in (one, other, one, other):
        with pytest.raises(Poison):
            step._isolate([record], POISON)


def test_undecodable_records_are_letters_and_the_rest_are_arrivals_in_order(step: InventoryStep) -> None:
    codec = make_codec()
    first, second = make_order(), make_order()
    arrivals, letters = step._decode(records(codec.encode(first), b"garbage", None, codec.encode(second)))
    assert [arrival.order for arrival in arrivals] == [first, second]
    assert [arrival.coordinate.offset for arrival in arrivals] == [7, 10]
    assert [letter.value for letter in letters] == [b"garbage", None]


def test_dead_letters_are_counted_once_their_transaction_is_committed(step: InventoryStep) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("kafka_dead_letters_total", {"topic": "orders.created"}) or 0.0

    before = counted()
    _, letters = step._decode(records(b"garbage", b"more"))
    assert counted() == before
    step.settled(committed(letters))
    assert counted() == before + 2
