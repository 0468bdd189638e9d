"""Incremental audits: they read what is new, judge as a full one does, and refuse a memory of another pipeline."""

from pathlib import Path

import pytest

from audit.memory import MemoryRefusedError
from audit.readers.collector import Collector, Record
from audit.since import Since, audit_since
from audit.whole import audit
from common.topics import INVENTORY, INVENTORY_RESERVED, ORDERS_CREATED
from tests.audits import OUTCOMES, broken, commit, copy_event, execute, grow, inventory, process, settings_of, trim
from tests.factories import make_order
from tests.operators import recreate
from tests.pipeline import Pipeline
from tests.records import read, wait_for, write_orders


def since(pipeline: Pipeline, memory: Path, *, from_start: bool = False) -> Since:
    return audit_since(settings_of(pipeline), memory, from_start=from_start, wait_seconds=0.5, followers=False)


def agreed(pipeline: Pipeline, memory: Path) -> dict[str, list[str]]:
    """Return what both ways to judge find, which is the same."""
    found = broken(since(pipeline, memory).judgement)
    assert found == broken(audit(settings_of(pipeline), wait_seconds=0.5, followers=False))
    return found


def test_records_are_read_once_and_faults_among_the_old_are_found(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aim: one audit after the other goes on from one memory; then old rows are spoilt, and an old event doubled."""
    memory = tmp_path / "verify.sqlite"
    taken: list[Record] = []
    take = Collector.take

    def noted(self: Collector, record: Record) -> None:
        taken.append(record)
        take(self, record)

    monkeypatch.setattr(Collector, "take", noted)
    pipeline.set_stock({"tea": 100})
    old = [make_order() for _ in range(5)]
    process(pipeline, old)
    first = since(pipeline, memory)
    write_orders(pipeline, [make_order()])
    (waiting,) = broken(since(pipeline, memory).judgement)["L1"]
    with inventory(pipeline):
        wait_for(lambda: len(read(pipeline, *OUTCOMES)) == 6, what="the outcome")
    last = since(pipeline, memory)

    assert (first.before, first.orders, first.judgement.counts["orders"]) == ("", 5, 5)
    assert waiting.startswith("no outcome in time: the inventory has not read orders.created ")
    assert broken(last.judgement) == {}
    assert (last.orders, last.judgement.counts["orders"], last.judgement.counts["reserved"]) == (1, 6, 6)
    assert len(taken) == 12

    event = next(seen for seen in read(pipeline, *OUTCOMES) if old[0].order_id.encode() in (seen.value or b""))
    copy_event(pipeline, event, topic=INVENTORY_RESERVED)
    assert set(agreed(pipeline, memory)) == {"S5"}
    execute(
        pipeline, "UPDATE inventory.decision SET reason = 'other', verdict = 0 WHERE order_id = :id", id=old[1].order_id
    )
    assert set(agreed(pipeline, memory)) == {"S5", "S6", "S7"}
    execute(pipeline, "DELETE FROM inventory.decision WHERE order_id = :id", id=old[2].order_id)
    assert len(agreed(pipeline, memory)["S7"]) > 2


def test_offsets_that_went_back_are_found_over_old_events(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.set_stock({"tea": 100})
    process(pipeline, [make_order() for _ in range(3)])
    assert broken(since(pipeline, tmp_path / "verify.sqlite").judgement) == {}
    (partition, *_) = [seen.partition for seen in read(pipeline, ORDERS_CREATED)]
    commit(pipeline, INVENTORY, ORDERS_CREATED, partition=partition, offset=0)

    assert len(agreed(pipeline, tmp_path / "verify.sqlite")["S8"]) >= 3


def test_facts_stand_in_for_records_that_retention_took_and_new_partitions_are_read(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    pipeline.set_stock({"tea": 100})
    process(pipeline, [make_order() for _ in range(3)])
    memory = tmp_path / "verify.sqlite"
    since(pipeline, memory)
    for topic in (ORDERS_CREATED, INVENTORY_RESERVED):
        for partition in {seen.partition for seen in read(pipeline, topic)}:
            trim(pipeline, topic, partition=partition, to=1)
        grow(pipeline, topic, 10)
    write_orders(pipeline, [make_order()], partition=9)
    found = since(pipeline, memory)

    assert broken(found.judgement) == {"L1": ["no outcome in time: the inventory has not read orders.created 9@0"]}
    assert found.judgement.counts["orders"] == 4


def test_a_memory_of_a_topic_that_was_recreated_is_refused(pipeline: Pipeline, tmp_path: Path) -> None:
    memory = tmp_path / "verify.sqlite"
    write_orders(pipeline, [make_order()])
    since(pipeline, memory)
    recreate(pipeline, ORDERS_CREATED)

    with pytest.raises(MemoryRefusedError, match="recreated topic: topic orders") as refused:
        since(pipeline, memory)
    assert refused.value.cure.endswith("pipeline verify --since start")
    assert since(pipeline, memory, from_start=True).before == ""
