"""How the step takes apart what the database rejects, and takes less after doubtful starts."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import pytest
import structlog
from prometheus_client import REGISTRY

from common.config import KafkaSettings, PostgresSettings
from common.kafka.members import input_log
from common.postgres.hot import hot_connection
from common.topics import INVENTORY, ORDERS_CREATED
from inventory_service.core import allocation
from inventory_service.core.replay import Arrival
from inventory_service.io.guarding import guards
from inventory_service.io.step import Answer, InventoryStep
from onceloop.errors import Poison
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.guards.tables import GuardTables
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish
from tests.factories import make_codec, make_order

INPUT = Partition("blue.orders.created", 3)
DEAD_LETTERS = "blue.orders.created.inventory.dlq"
SETTINGS = KafkaSettings(kafka_bootstrap="127.0.0.1:1", registry_url="http://nowhere")
POISON = Poison("PostgreSQL rejects a value: 22003")


S = TypeVar("S", bound=InventoryStep)


def make(kind: type[S], connection: HotConnection) -> S:
    guarded = guards(connection, GuardTables("inventory"), make_codec(), input_log(SETTINGS, ORDERS_CREATED, INVENTORY))
    return kind(
        connection=connection,
        codec=make_codec(),
        namespace="blue",
        batch_records_max=500,
        guards=guarded,
        rule=allocation,
    )


@pytest.fixture
def step() -> Iterator[InventoryStep]:
    """A step whose database is never asked: its connection opens when it is first used."""
    nowhere = PostgresSettings(postgres_url="postgresql://unused@127.0.0.1:1/nothing")
    with (
        hot_connection(nowhere, application="test") as connection,
        structlog.testing.capture_logs(),
    ):
        yield make(InventoryStep, connection)


def records(*values: bytes | None, first: int = 7) -> list[InputRecord]:
    return [InputRecord(INPUT, first + index, b"ada", value) for index, value in enumerate(values)]


def committed() -> Publish:
    return Publish(records=[], offsets={INPUT: CommitPoint(1)})


def letters_of(published: Publish) -> list[OutputRecord]:
    return [record for record in published.records if record.is_dead_letter]


def test_limit_halves_after_doubtful_starts_and_never_falls_below_one(step: InventoryStep) -> None:
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


class Rejecting(InventoryStep):
    """A step whose database rejects certain orders; `tried` holds the sizes of what it was given."""

    bad: frozenset[str] = frozenset()
    failures = 1_000

    reason: str | None = None

    def _decide_all(self, arrivals: Sequence[Arrival]) -> list[Answer]:
        self.tried = [*getattr(self, "tried", []), len(arrivals)]
        if self.failures and any(arrival.order.order_id in self.bad for arrival in arrivals):
            self.failures -= 1
            raise POISON
        return [(OutputRecord("blue.inventory.reserved", b"ada", a.value, ()), self.reason) for a in arrivals]


@pytest.fixture
def rejecting() -> Iterator[Rejecting]:
    nowhere = PostgresSettings(postgres_url="postgresql://unused@127.0.0.1:1/nothing")
    with (
        hot_connection(nowhere, application="test") as connection,
        structlog.testing.capture_logs(),
    ):
        step = make(Rejecting, connection)
        step._guards.starts.begun.add(INPUT)
        yield step


@pytest.mark.parametrize("bad", [{0}, {99}, {37}, {0, 99}, {10, 11, 12}, set(range(100))])
def test_what_the_database_rejects_is_a_dead_letter_and_all_around_it_is_answered_in_order(
    rejecting: Rejecting, bad: set[int]
) -> None:
    codec = make_codec()
    orders = [make_order() for _ in range(100)]
    values = [codec.encode(order) for order in orders]
    rejecting.bad = frozenset(orders[number].order_id for number in bad)
    plan = rejecting.decide(records(*values))
    events = [record.value for record in plan.records if not record.is_dead_letter]
    assert events == [values[n] for n in range(100) if n not in bad]
    assert [letter.value for letter in letters_of(plan)] == [values[n] for n in sorted(bad)]
    assert {dict(letter.headers)["dlq_error_class"] for letter in letters_of(plan)} == {b"database"}
    assert plan.offsets == {INPUT: CommitPoint(107)}


def test_one_rejected_order_among_500_costs_few_transactions(rejecting: Rejecting) -> None:
    codec = make_codec()
    orders = [make_order() for _ in range(500)]
    rejecting.bad = frozenset({orders[123].order_id})
    rejecting.decide(records(*map(codec.encode, orders)))
    assert len(rejecting.tried) <= 2 * 10 + 1


def test_record_that_stands_alone_is_no_dead_letter_when_it_fails_only_once(rejecting: Rejecting) -> None:
    order = make_order()
    rejecting.bad, rejecting.failures = frozenset({order.order_id}), 1
    plan = rejecting.decide(records(make_codec().encode(order)))
    assert (len(plan.records), letters_of(plan)) == (1, [])


def test_undecodable_records_are_letters_and_the_rest_are_arrivals_in_order(step: InventoryStep) -> None:
    codec = make_codec()
    first, second = make_order(), make_order()
    arrivals, letters = step._decoding.of(records(codec.encode(first), b"garbage", None, codec.encode(second)))
    assert [arrival.order for arrival in arrivals] == [first, second]
    assert [arrival.coordinate.offset for arrival in arrivals] == [7, 10]
    assert [letter.value for letter in letters] == [b"garbage", None]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def answered() -> list[float]:
    return [
        counted("inventory_decisions_total", verdict="reserved", reason="none"),
        counted("inventory_decisions_total", verdict="failed", reason="unknown_sku"),
        counted("kafka_dead_letters_total", topic="orders.created"),
    ]


def test_orders_and_dead_letters_are_counted_once_their_transaction_is_committed(rejecting: Rejecting) -> None:
    codec = make_codec()
    before = answered()
    plan = rejecting.decide(records(codec.encode(make_order()), b"garbage", codec.encode(make_order())))
    assert answered() == before
    rejecting.settled(plan)
    rejecting.reason = "unknown_sku"
    rejecting.settled(rejecting.decide(records(codec.encode(make_order()), first=10)))
    assert [now - then for now, then in zip(answered(), before, strict=True)] == [2, 1, 1]


@pytest.mark.parametrize(("stable", "counts"), [(9, 2), (8, 0), (7, 0)])
def test_orders_of_an_unsure_end_are_counted_if_the_group_stands_behind_them(
    rejecting: Rejecting, stable: int, counts: int
) -> None:
    """Their decisions stand either way. Not committed, they come again, and are counted then."""
    codec = make_codec()
    values = [codec.encode(make_order()) for _ in range(2)]
    before = answered()[0]
    rejecting.decide(records(*values))
    rejecting.reset({INPUT: CommitPoint(stable)})
    rejecting.reset({INPUT: CommitPoint(stable)})
    assert answered()[0] - before == counts
