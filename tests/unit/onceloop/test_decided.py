"""What a step makes of records, whatever their handler does: on a table in memory. Its SQL: test_once.py."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from structlog.testing import capture_logs

from onceloop.errors import Busy, ContractError, ReportedError
from onceloop.handlers import Each, OutputCheck, Refused
from onceloop.ownership import Item, Known, Row
from onceloop.postgres.decided import DecidedStep
from onceloop.records import InputRecord, OutputRecord, Partition
from onceloop.runtime import Runtime

AT = Partition("in", 0)


class Clock:
    """Time that passes when a handler says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def time_ns(self) -> int:
        return int(self.now * 1e9)


class Connection:
    """As much of a connection to PostgreSQL as a step touches itself."""

    closed = False
    warned = False
    opened = 1
    info = SimpleNamespace(transaction_status=TransactionStatus.INTRANS)
    row_factory = cursor_factory = None

    def __init__(self, clock: Clock) -> None:
        self.runtime = Runtime(clock=clock)

    def get(self) -> "Connection":
        return self

    def execute(self, _statement: str) -> None: ...

    def recover(self) -> None: ...

    def drop(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


class Table:
    """Rows by owner, one accepted row per key."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def known(self, _connection: Any, items: Iterable[Item]) -> Known:
        asked = list(items)
        keys, owners = {item.key for item in asked}, {item.coordinate for item in asked}
        return Known.of(row for row in self.rows if row.owner in owners or (row.key in keys and not row.refused))

    def begin(self, connection: Any, items: Iterable[Item], *, name: str) -> Known:  # noqa: ARG002 - the table's
        return self.known(connection, items)

    def commit(self, _connection: Any, rows: Sequence[Row], *, name: str) -> None:  # noqa: ARG002 - the table's
        for row in rows:
            assert all(row.owner != other.owner for other in self.rows)
            assert row.refused or all(row.key != other.key or other.refused for other in self.rows)
            self.rows.append(row)


class Guards:
    """Guards that have nothing against anything."""

    def admit(self, *_: object) -> None: ...

    insist = note = demand = admit


def record(offset: int, key: bytes | None = None, value: bytes = b"") -> InputRecord:
    return InputRecord(AT, offset, b"k%d" % offset if key is None else key, value)


def out(record: InputRecord) -> list[OutputRecord]:
    return [OutputRecord("out", record.key, record.value)]


class World:
    """One table, and steps on it, each as a process of its own has one."""

    def __init__(self) -> None:
        self.table, self.clock = Table(), Clock()

    def step(
        self,
        handler: Callable[[InputRecord, Any], Any],
        key: Callable[[InputRecord], Any] = lambda record: record.key,
        surroundings: tuple[type[Exception], ...] = (),
    ) -> DecidedStep:
        connection: Any = Connection(self.clock)
        table: Any = self.table
        step = DecidedStep(
            Each(handler, OutputCheck(["out"], prefix="")),
            key,
            connection=connection,
            table=table,
            service="group",
            dead_letters={"in": "in.dlq"},
            own=lambda record: record,
            records_max=500,
            surroundings=surroundings,
        )
        guards: Any = Guards()
        step.guards = guards
        return step


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def world() -> World:
    return World()


def published(step: DecidedStep, batch: Sequence[InputRecord]) -> list[tuple[str, bytes | None]]:
    return [(record.topic, record.value) for record in step.decide(batch).records]


def until_decided(
    step: DecidedStep, batch: Sequence[InputRecord], *, turns: int = 20
) -> list[tuple[str, bytes | None]]:
    """Return what is published once no Busy is raised any more."""
    for _ in range(turns):
        try:
            return published(step, batch)
        except Busy:
            continue
    raise AssertionError("busy to the end")


def refuse_bad(record: InputRecord, _db: object) -> list[OutputRecord]:
    if record.value == b"bad":
        raise Refused("bad")
    return out(record)


def test_dead_letter_is_repeated_though_another_record_of_its_key_was_accepted(world: World) -> None:
    """Aim: a replay publishes what was decided. Fault: a crash between the two commits.

    Red before: the refusal made way for the accepted row, and the replay lacked the dead letter.
    """
    batch = [record(10, b"K", b"bad"), record(11, b"K", b"good")]
    first = published(world.step(refuse_bad), batch)
    assert published(world.step(refuse_bad), batch) == first
    assert [topic for topic, _ in first] == ["in.dlq", "out"]


def test_slow_process_does_not_accept_what_was_refused_meanwhile(world: World) -> None:
    """Aim: a record with a dead letter has no effects. Fault: a process sleeps until the group has moved on.

    Red before: a second refusal of the key took the row of the first.
    """
    funds, effects = [False], []

    def pay(record: InputRecord, _db: object) -> list[OutputRecord]:
        if not funds[0]:
            raise Refused("no funds")
        effects.append(record.offset)
        return out(record)

    live, slow = world.step(pay), world.step(pay)
    letters = [published(live, [record(offset, b"K")]) for offset in (10, 11)]
    funds[0] = True
    assert published(slow, [record(10, b"K")]) == letters[0]
    assert published(slow, [record(11, b"K")]) == letters[1]
    assert effects == []
    assert published(live, [record(12, b"K", b"mended")]) == [("out", b"mended")]


def test_row_of_another_key_at_the_same_place_is_published_for_no_record(world: World) -> None:
    """Act: a topic is recreated, and what the group remembers of it removed; or the key function is changed."""
    step = world.step(lambda record, _db: out(record))
    assert published(step, [record(3, b"former", b"1")]) == [("out", b"1")]
    with pytest.raises(ReportedError, match=r"in\[0\] at 3 is decided under the key b'former', not b'new'"):
        step.decide([record(3, b"new", b"2")])
    connection: Any = Connection(world.clock)
    assert step.undecided(connection, [record(3, b"new", b"2")]) != [], "and no guard takes it for decided"
    assert [row.key for row in world.table.rows] == [b"former"]


def test_outage_now_and_then_holds_up_no_record_before_it(world: World) -> None:
    """Red before: each raise undid the whole batch, and the next attempt met another one."""
    calls = [0]

    def flaky(record: InputRecord, _db: object) -> list[OutputRecord]:
        calls[0] += 1
        if calls[0] % 10 == 0:
            raise TimeoutError("a moment")
        return out(record)

    step = world.step(flaky)
    assert len(until_decided(step, [record(offset) for offset in range(100)], turns=15)) == 100


def test_records_that_went_through_before_the_first_raise_are_no_evidence(world: World) -> None:
    """Fault: what the handler needs is slow, then gone; its error is none that the library knows.

    Red before: the records that had gone through earlier in the batch spoke against the first one that did not.
    """
    gone = [False]

    def ask(record: InputRecord, _db: object) -> list[OutputRecord]:
        world.clock.now += 1.0  # so that a part ends after three
        gone[0] = gone[0] or record.offset >= 6
        if gone[0]:
            raise LookupError("502")
        return out(record)

    step = world.step(ask)
    with pytest.raises(ReportedError, match="no other record has gone through since"):
        until_decided(step, [record(offset) for offset in range(8)])
    assert not any(row.refused for row in world.table.rows)


@pytest.mark.parametrize("error", [ConnectionError("registry away"), Busy("later")])
def test_outage_in_the_key_function_is_not_held_against_the_record(world: World, error: Exception) -> None:
    away = [True]

    def key(record: InputRecord) -> bytes | None:
        if away[0] and record.offset == 1:
            raise error
        return record.key

    step = world.step(lambda record, _db: out(record), key)
    batch = [record(offset) for offset in range(3)]
    for _ in range(5):
        with pytest.raises(Busy):
            step.decide(batch)
    with pytest.raises(Busy):  # the guard must not take it for a record without a key
        step.undecided(Any, batch)  # type: ignore[arg-type] # not reached
    away[0] = False
    assert len(published(step, batch)) == 3


def test_key_that_is_no_text_in_unicode_is_a_dead_letter(world: World) -> None:
    """Red before: the process ended at the record, at each start again."""
    step = world.step(lambda record, _db: out(record), lambda record: json.loads(record.value or b"")["id"])
    batch = [record(0, value=b'{"id": "a"}'), record(1, value=b'{"id": "\\ud800"}')]
    assert [topic for topic, _ in published(step, batch)] == ["out", "in.dlq"]


def test_key_of_a_wrong_type_is_a_dead_letter_once_others_have_gone_through(world: World) -> None:
    """Red before: the process ended at the record, at each start again."""
    step = world.step(lambda record, _db: out(record), lambda record: json.loads(record.value or b"")["id"])
    batch = [record(0, value=b'{"id": 7}'), record(1, value=b'{"id": "a"}')]
    assert sorted(topic for topic, _ in until_decided(step, batch)) == ["in.dlq", "out"]


def test_output_that_calls_itself_a_dead_letter_is_refused_before_anything_is_kept(world: World) -> None:
    """Red before: the process ended after the commit in Kafka, with a KeyError."""
    step = world.step(lambda record, _db: [OutputRecord("out", record.key, b"", is_dead_letter=True)])
    with pytest.raises(ContractError, match="calls itself a dead letter"):
        step.decide([record(0)])
    assert world.table.rows == []


@pytest.mark.parametrize("error", [psycopg.errors.RaiseException("balance"), psycopg.errors.DivisionByZero("x")])
def test_database_error_that_one_record_brings_about_is_its_dead_letter(world: World, error: Exception) -> None:
    """Red before: the process ended at the record, at each start again."""

    def validate(record: InputRecord, _db: object) -> list[OutputRecord]:
        if record.offset == 1:
            raise error
        return out(record)

    step = world.step(validate)
    topics = [topic for topic, _ in until_decided(step, [record(offset) for offset in range(3)])]
    assert sorted(topics) == ["in.dlq", "out", "out"]
