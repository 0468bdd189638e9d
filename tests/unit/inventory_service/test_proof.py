"""Which committed offsets are believed, on which connection, and what is asked for it."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from common.events.orders import OrderCreated
from inventory_service.io import proof as inventory_proof
from inventory_service.io.proof import ProgressProof
from onceloop.errors import Busy, FatalError
from onceloop.kafka import offset_proof
from onceloop.kafka.input_log import Reading
from onceloop.records import CommitPoint, InputRecord, Partition
from tests.factories import make_codec, make_order

OURS, THEIRS = Partition("orders.created", 3), Partition("orders.created", 4)
CODEC = make_codec()
ORDERS = [make_order() for _ in range(10)]


class Tables:
    """Stands for the two stores and for the connection to them."""

    def __init__(self, noted: Mapping[Partition, int], decided: list[OrderCreated]) -> None:
        self.opened = 1
        self.noted = dict(noted)
        self.ids = {order.order_id for order in decided}

    def answered(self, _connection: object, partitions: Any) -> dict[Partition, int]:
        return {at: offset for at, offset in self.noted.items() if at in partitions}

    def note(self, _connection: object, committed: Mapping[Partition, CommitPoint]) -> None:
        self.noted.update({at: point.offset for at, point in committed.items()})

    def decided(self, _connection: object, order_ids: set[str]) -> set[str]:
        return self.ids & order_ids


class Log:
    """Stands for the topic: the same ten orders on each partition, from offset 0 on."""

    def __init__(self, committed: Mapping[Partition, int]) -> None:
        self._committed = committed
        self.looks = self.first = 0
        self.slow = False
        self.spans: list[Mapping[Partition, tuple[int, int]]] = []
        self.letters: set[tuple[Partition, int]] = set()

    def committed(self) -> Mapping[Partition, int]:
        self.looks += 1
        return self._committed

    def read(self, wanted: Mapping[Partition, tuple[int, int]]) -> Reading:
        self.spans.append(wanted)
        ends = {at: start + 1 if self.slow else end for at, (start, end) in wanted.items()}
        records = [
            InputRecord(at, offset, b"ada", b"garbage" if offset == 9 else CODEC.encode(ORDERS[offset]))
            for at, (start, _) in wanted.items()
            for offset in range(max(start, self.first), min(ends[at], 10))
        ]
        return Reading(records, dict.fromkeys(wanted, self.first), ends)

    def dead_letters(self) -> set[tuple[Partition, int]]:
        return self.letters


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def proof(tables: Tables, log: Log, monkeypatch: pytest.MonkeyPatch) -> ProgressProof:
    monkeypatch.setattr(inventory_proof, "progress_store", tables)
    monkeypatch.setattr(inventory_proof, "decision_store", tables)
    monkeypatch.setattr(inventory_proof, "rerun", lambda work, connection: work(connection))
    return ProgressProof(connection=tables, input_log=log, codec=CODEC)  # type: ignore[arg-type]


def demanded(tables: Tables, log: Log, monkeypatch: pytest.MonkeyPatch, at: int) -> ProgressProof:
    proving = proof(tables, log, monkeypatch)
    proving.demand({OURS: CommitPoint(at)})
    return proving


def test_offsets_that_are_noted_cost_no_look_at_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, log = Tables({OURS: 8, THEIRS: 5}, []), Log({OURS: 8, THEIRS: 5})
    proving = demanded(tables, log, monkeypatch, 8)
    proving.give()
    proving.insist()
    for _ in range(3):  # as after a rebalance: the connection is known
        proving.demand({OURS: CommitPoint(8)})
        proving.give()
        proving.give()
    assert (log.looks, log.spans) == (1, [])


def test_offsets_ahead_of_the_note_are_believed_if_every_order_between_is_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker died between Kafka's commit and its note, or the note was lost with the server."""
    tables, log = Tables({OURS: 4}, ORDERS[4:9]), Log({OURS: 10})
    proving = demanded(tables, log, monkeypatch, 10)
    proving.give()
    assert log.spans == [{OURS: (4, 10)}]
    assert tables.noted == {OURS: 10}, "noted, so that it is not asked again"


def test_undecided_orders_below_the_offset_stop_the_worker_before_it_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(offset_proof, "time", SimpleNamespace(monotonic=lambda: now))
    tables, log = Tables({OURS: 4}, ORDERS[:6]), Log({OURS: 9})
    proving = demanded(tables, log, monkeypatch, 9)
    with pytest.raises(Busy, match=r"orders\.created\[3\] stands at 9, but 3 orders from 6 on have no decision"):
        proving.give()
    with pytest.raises(Busy):
        proving.insist()
    now += offset_proof.OLD_OFFSETS_SECONDS_MAX + 1
    with pytest.raises(FatalError, match="lie beyond what is decided") as ended:
        proving.give()
    assert "pipeline rebuild" in ended.value.cure
    assert tables.noted == {OURS: 4}


def test_orders_of_other_workers_without_a_decision_stop_this_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database lacks their reservations: their stock would be sold a second time."""
    tables, log = Tables({OURS: 4, THEIRS: 2}, []), Log({OURS: 4, THEIRS: 3})
    proving = demanded(tables, log, monkeypatch, 4)
    with pytest.raises(Busy, match=r"orders\.created\[4\] stands at 3, but 1 orders from 2 on"):
        proving.give()


def test_order_that_is_a_dead_letter_needs_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, log = Tables({OURS: 4}, ORDERS[5:9]), Log({OURS: 9})
    log.letters = {(OURS, 4)}
    demanded(tables, log, monkeypatch, 9).give()
    assert tables.noted == {OURS: 9}


def test_a_new_connection_is_proven_before_anything_is_decided_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, log = Tables({OURS: 8}, []), Log({OURS: 8})
    proving = demanded(tables, log, monkeypatch, 8)
    proving.give()
    tables.opened, tables.noted = 2, {OURS: 3}  # restored
    with pytest.raises(Busy, match="new connection"):
        proving.insist()
    proving.demand({OURS: CommitPoint(8)})
    with pytest.raises(Busy, match="5 orders from 3 on have no decision"):
        proving.give()


def test_long_stretches_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, log = Tables({}, ORDERS), Log({OURS: 3})
    log.slow = True
    proving = demanded(tables, log, monkeypatch, 3)
    for _ in range(2):
        with pytest.raises(Busy, match="compared with the decisions"):
            proving.give()
    proving.give()
    assert log.spans == [{OURS: (0, 3)}, {OURS: (1, 3)}, {OURS: (2, 3)}]


def test_what_retention_took_away_cannot_be_proven_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    tables, log = Tables({OURS: 2}, ORDERS[6:]), Log({OURS: 9})
    log.first = 6
    demanded(tables, log, monkeypatch, 9).give()
    assert [(line["event"], line["noted"], line["first"]) for line in logs] == [("progress.unproven", 2, 6)]


def test_worker_ends_if_the_group_stays_behind_what_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(offset_proof, "time", SimpleNamespace(monotonic=lambda: now))
    proving = demanded(Tables({OURS: 9}, []), Log({OURS: 3}), monkeypatch, 3)
    with pytest.raises(Busy, match=r"orders\.created\[3\] at 3 of 9"):
        proving.give()
    now += offset_proof.OLD_OFFSETS_SECONDS_MAX + 1
    with pytest.raises(FatalError, match="lie before what is answered"):
        proving.give()
