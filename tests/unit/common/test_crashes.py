"""An unforeseen error in the plain loop: a record is given up on evidence alone, and never for an outage."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import psycopg
import pytest
import sqlalchemy as sa
from confluent_kafka import KafkaError, KafkaException
from structlog.testing import capture_logs

from common.postgres.outage import DATABASE_ERRORS
from onceloop.crashes import CRASHES_MAX
from onceloop.errors import Busy, ContractError, FatalError, Poison
from onceloop.plain import _Work
from onceloop.records import InputRecord, Partition, next_offsets
from onceloop.runtime import REAL

Handle = Callable[[str], None]
TURNS_MAX = 200


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Print no tracebacks: without the product's configuration they are drawn, which takes seconds."""
    with capture_logs():
        yield


class Group:
    """A topic's partitions, the group's offsets, and a handler that does `handle` for each value, in order."""

    def __init__(self, handle: Handle, *partitions: str, apart: bool = True) -> None:
        self.apart = apart
        self.offsets = {Partition("t", number): 0 for number in range(len(partitions))}
        self.done: list[str] = []
        self.rejected: list[tuple[str, str]] = []
        self._handle = handle
        self._values = dict(zip(self.offsets, partitions, strict=True))

    def handle(self, batch: Sequence[InputRecord]) -> None:
        for record in batch:
            value = (record.value or b"").decode()
            self._handle(value)
            self.done.append(value)

    def reject(self, record: InputRecord, poison: Poison) -> None:
        self.rejected.append(((record.value or b"").decode(), poison.error_class))

    def starts(self, owned: frozenset[Partition]) -> Mapping[Partition, int]:
        return {partition: self.offsets[partition] for partition in owned}

    def settle(self, batch: Sequence[InputRecord]) -> None:
        for record in batch:
            assert record.offset == self.offsets[record.partition], "an offset passes unfinished work"
            self.offsets[record.partition] += 1
        assert {at: point.offset for at, point in next_offsets(batch).items()}.items() <= self.offsets.items()

    def unread(self) -> list[InputRecord]:
        return [
            InputRecord(partition, offset, None, value.encode())
            for partition, values in self._values.items()
            for offset, value in enumerate(values)
            if offset >= self.offsets[partition]
        ]

    def run(self, *, limit: int = 500) -> "Group":
        """Take turns until all is read, as the loop does; raises what ends the process."""
        work = _Work(self, self, DATABASE_ERRORS, REAL)
        for _ in range(TURNS_MAX):
            batch = self.unread()[:limit]
            if not batch:
                return self
            try:
                work.on(batch)
            except Busy:
                continue
        raise AssertionError(f"still unread after {TURNS_MAX} turns: {self.unread()}")


def failing(bad: str, error: BaseException) -> Handle:
    def handle(value: str) -> None:
        if value in bad:
            raise error

    return handle


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("error", [IndexError("list index out of range"), KeyError("x"), RecursionError(), Exception()])
def test_record_for_which_the_handler_always_raises_is_given_up__all_others_are_worked_on(
    error: Exception, *, apart: bool
) -> None:
    """It ended the process again and again, for all users of the group."""
    group = Group(failing("X", error), "abXcd", "efgh", apart=apart).run()
    assert group.rejected == [("X", "crash")]
    assert set(group.done) == set("abcdefgh")
    assert not group.unread()


def test_record_is_tried_alone_as_often_as_the_bound_says_before_it_is_given_up() -> None:
    alone: list[str] = []

    class Counting(Group):
        def handle(self, batch: Sequence[InputRecord]) -> None:
            if len(batch) == 1 and batch[0].value == b"X":
                alone.append("X")
            super().handle(batch)

    assert Counting(failing("X", IndexError()), "abXcd").run().rejected == [("X", "crash")]
    assert len(alone) == CRASHES_MAX


def test_exception_that_passes_by_itself_costs_no_record() -> None:
    left = [IndexError("of this moment")] * 4

    def handle(value: str) -> None:
        if value == "X" and left:
            raise left.pop()

    group = Group(handle, "abXcd").run()
    assert (group.rejected, not group.unread()) == ([], True)
    assert set(group.done) == set("abXcd")


@pytest.mark.parametrize("values", ["XXab", "aXXXb", "XaXbXc"])
def test_neighbours_that_both_raise_are_both_given_up(values: str) -> None:
    group = Group(failing("X", ValueError()), values, "e").run()
    assert len(group.rejected) == values.count("X")
    assert not group.unread()


@pytest.mark.parametrize(
    "outage",
    [
        OSError(28, "no space left on device"),
        ConnectionResetError(),
        TimeoutError(),
        MemoryError(),
        KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN)),
        psycopg.OperationalError("the connection is closed"),
        sa.exc.ProgrammingError("SELECT", {}, Exception("no such table")),
        sa.exc.InterfaceError("SELECT", {}, Exception("connection already closed")),
        FatalError("fenced"),
        ContractError("a constraint without a name"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_speaks_of_the_world_is_never_held_against_a_record(outage: Exception) -> None:
    """Even where it meets one record alone: it ends the process, and the record comes again."""
    group = Group(failing("X", outage), "abXcd", "efgh")
    with pytest.raises(type(outage)):
        group.run()
    assert group.rejected == []
    assert group.offsets[Partition("t", 0)] <= 2


@pytest.mark.parametrize("before", ["", "abcdefgh"], ids=["from the start", "after it worked"])
def test_exception_that_meets_every_record_gives_none_up(before: str) -> None:
    """A fault of ours, or an outage that shows in an unforeseen way: the process ends, as before, and says why."""
    broken = False

    def handle(value: str) -> None:
        if broken or value not in before:
            raise AttributeError("'NoneType' object has no attribute 'send'")

    group = Group(handle, before + "XYZ" * 5, "ABC" * 5)
    with pytest.raises(AttributeError):
        group.run(limit=len(before) or 500)
    assert group.rejected == []


def test_record_that_is_alone_in_the_world_waits_for_another_one_to_compare_with() -> None:
    group = Group(failing("X", IndexError()), "X")
    with pytest.raises(IndexError):
        group.run()
    assert group.rejected == []
    group._values[Partition("t", 0)] = "Xa"
    assert group.run().rejected == [("X", "crash")]


def test_records_behind_the_culprit_are_not_skipped_though_they_were_tried_before() -> None:
    group = Group(failing("X", IndexError()), "Xab").run()
    assert group.rejected == [("X", "crash")]
    assert group.done[-2:] == ["a", "b"]
    assert group.offsets[Partition("t", 0)] == 3


def test_store_that_keeps_offsets_with_its_data_is_never_asked_to_run_ahead_of_them() -> None:
    group = Group(failing("X", IndexError()), "Xab", apart=False)
    with pytest.raises(IndexError):
        group.run()
    assert (group.rejected, group.done) == ([], [])


def test_other_partitions_do_not_wait_for_one_whose_record_raises() -> None:
    group = Group(failing("X", IndexError()), "Xab", "cd", "ef")
    work = _Work(group, group, (), REAL)
    with pytest.raises(Busy, match="IndexError"):
        work.on(group.unread())
    with pytest.raises(Busy, match="2 of 3"):
        work.on(group.unread())
    assert group.done == ["c", "d", "e", "f"]


def test_reason_names_type_and_place__never_the_text_that_may_hold_an_address() -> None:
    reasons: list[str] = []

    class Reporting(Group):
        def reject(self, record: InputRecord, poison: Poison) -> None:
            super().reject(record, poison)
            reasons.append(str(poison))

    Reporting(failing("X", ValueError("ada@home.example is odd")), "aXb").run()
    (reason,) = reasons
    assert reason.startswith("ValueError in ")
    assert "ada" not in reason
