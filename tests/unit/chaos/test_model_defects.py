"""The model finds what is planted: each defect within a bounded number of interleavings, by the rule that names it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from chaos.model import explore
from chaos.model.client_producer import ModelProducer
from chaos.model.group import Group
from chaos.model.network import Weather
from chaos.model.scenario import Fault, Scenario
from chaos.model.tables import ModelConnection
from inventory_service.core.replay import Arrival, Decision
from inventory_service.io import step
from inventory_service.io.decision_store import Snapshot
from onceloop import transactional as transactional_loop
from onceloop.errors import Busy
from onceloop.kafka.group_consumer import GroupConsumer, generation
from onceloop.kafka.transactional_producer import TransactionalProducer
from onceloop.postgres.guards.progress import ProgressGuard
from onceloop.records import CommitPoint, Partition, Publish
from onceloop.transactional import _Loop

FIRST_SEED = 1


@contextmanager
def offsets_committed_outside_the_transaction() -> Iterator[None]:
    settle = _Loop._settle

    def settle_then_commit(loop: _Loop, plan: Publish) -> None:
        try:
            loop._consumer.commit(plan.offsets)
        except Busy as busy:
            loop.recover(str(busy))
        else:
            settle(loop, plan)

    with (
        patch.object(ModelProducer, "send_offsets_to_transaction", lambda *_: None),
        patch.object(_Loop, "_settle", settle_then_commit),
    ):
        yield


def event_rebuilt_on_replay() -> AbstractContextManager[Any]:
    read = ModelConnection.read

    def read_and_rebuild(connection: ModelConnection, **asked: Any) -> Snapshot:
        found = read(connection, **asked)
        return replace(found, known={order_id: rebuilt(row) for order_id, row in found.known.items()})

    def rebuilt(row: Decision) -> Decision:
        event_id = f"{row.event_id}, again"
        return Decision(row.order_id, row.reason, event_id, row.event, row.owner, row.decided_at_ms)

    return patch.object(ModelConnection, "read", read_and_rebuild)


def owner_rule_off() -> AbstractContextManager[Any]:
    def all_own(arrivals: list[Arrival], decisions: dict[str, Decision]) -> list[tuple[Arrival, Decision]]:
        return [(arrival, decisions[arrival.order.order_id]) for arrival in arrivals]

    return patch.object(step, "owners", all_own)


def no_rewind_after_a_failed_transaction() -> AbstractContextManager[Any]:
    seek = GroupConsumer.seek

    def seek_only_what_was_assigned(consumer: GroupConsumer, positions: dict[Partition, int]) -> bool:
        return seek(consumer, positions) if consumer.moved else True

    return patch.object(GroupConsumer, "seek", seek_only_what_was_assigned)


@contextmanager
def producer_reused_after_an_unsure_end() -> Iterator[None]:
    recover = _Loop.recover

    def abort_and_reuse(loop: _Loop, cause: str, *, rebuild: bool = False, pause: bool = False) -> None:
        if cause == "unsure end" and loop.producer is not None:
            with ExitStack() as whatever_comes:
                whatever_comes.push(lambda kind, *_: kind is not None and issubclass(kind, Exception))
                loop.producer._producer.abort_transaction(2.0)
        recover(loop, cause, rebuild=rebuild and loop.producer is None, pause=pause)

    with patch.object(_Loop, "recover", abort_and_reuse), patch.object(TransactionalProducer, "tainted", lambda _: ""):
        yield


@contextmanager
def taint_ignored() -> Iterator[None]:
    with patch.object(TransactionalProducer, "tainted", lambda _: ""):
        yield


@contextmanager
def group_metadata_taken_at_start() -> Iterator[None]:
    build = GroupConsumer.__init__

    def build_and_ask(consumer: GroupConsumer, *arguments: Any, **named: Any) -> None:
        build(consumer, *arguments, **named)
        consumer._at_start = consumer._consumer.consumer_group_metadata()  # type: ignore[attr-defined]

    with (
        patch.object(GroupConsumer, "__init__", build_and_ask),
        patch.object(GroupConsumer, "group_metadata", lambda consumer: consumer._at_start),
        patch.object(transactional_loop, "generation", lambda metadata: max(0, generation(metadata))),
    ):
        yield


def offset_of_the_last_record_committed() -> AbstractContextManager[Any]:
    def last_offsets(batch: Any) -> dict[Partition, CommitPoint]:
        return {record.partition: CommitPoint(record.offset) for record in batch}

    return patch.object(step, "next_offsets", last_offsets)


@contextmanager
def pending_offsets_overlooked() -> Iterator[None]:
    """Old offsets come from the broker then; compared with what is answered, they would not be believed."""
    with (
        patch.object(Group, "is_stable", lambda *_: True),
        patch.object(ProgressGuard, "give", lambda _: None),
        patch.object(ProgressGuard, "insist", lambda _: None),
    ):
        yield


def rewound_to_what_is_remembered_instead_of_what_is_committed() -> AbstractContextManager[Any]:
    rewind = _Loop._rewind

    def rewind_to_memory(loop: _Loop) -> None:
        if loop._positions.due.keys() == loop._consumer.owned and loop._positions.due:
            loop._consumer.seek(loop._positions.due)
        else:
            rewind(loop)

    return patch.object(_Loop, "_rewind", rewind_to_memory)


def anywhere(scenario: Scenario) -> Scenario:
    return scenario


def where_requests_come_late(scenario: Scenario) -> Scenario:
    """Defects of the producer need a first copy that arrives in the middle of the next transaction."""
    kinds = (Weather.OVERTAKEN, Weather.HELD)
    return replace(scenario, weathers=kinds, rough_network=0.3, promptness=0.0, faults=0, batch_records_max=1)


def where_processes_freeze(scenario: Scenario) -> Scenario:
    """A zombie does harm only if no process took its slot, so that no epoch fences it."""
    faults = (Fault.FREEZE, Fault.EXPEL)
    return replace(scenario, fault_kinds=faults, faults=4, frozen_are_replaced=False, rough_network=0.0)


Defect = Callable[[], AbstractContextManager[Any]]
DEFECTS: tuple[tuple[Defect, set[str], int, Callable[[Scenario], Scenario]], ...] = (
    (offsets_committed_outside_the_transaction, {"S5", "S11"}, 100, anywhere),
    (event_rebuilt_on_replay, {"S7"}, 100, anywhere),
    (owner_rule_off, {"S5"}, 100, anywhere),
    (no_rewind_after_a_failed_transaction, {"L1"}, 100, anywhere),
    (producer_reused_after_an_unsure_end, {"S5", "S8"}, 400, where_requests_come_late),
    (taint_ignored, {"S5", "S8"}, 400, where_requests_come_late),
    (group_metadata_taken_at_start, {"S5", "S11"}, 400, where_processes_freeze),
    (offset_of_the_last_record_committed, {"L1", "S5"}, 100, anywhere),
    (pending_offsets_overlooked, {"S5", "S11"}, 100, anywhere),
    (rewound_to_what_is_remembered_instead_of_what_is_committed, {"S5", "S8", "S11"}, 400, where_requests_come_late),
)


@pytest.mark.parametrize(("defect", "rules", "within", "narrow"), DEFECTS, ids=[row[0].__name__ for row in DEFECTS])
def test_planted_defect_is_found_by_its_rule(
    defect: Defect, rules: set[str], within: int, narrow: Callable[[Scenario], Scenario]
) -> None:
    with defect():
        found = explore(FIRST_SEED, within, narrow=narrow)
    assert found.failed is not None, f"not found in {within} interleavings"
    assert {broken.rule for broken in found.failed.violations} & rules, found.failed.story()


@pytest.mark.parametrize("narrow", [where_requests_come_late, where_processes_freeze])
def test_without_the_defect_nothing_is_found_there(narrow: Callable[[Scenario], Scenario]) -> None:
    found = explore(FIRST_SEED, 30, narrow=narrow)
    assert found.failed is None, found.failed and found.failed.story()
