"""The checker while operators trim topics and add partitions: it goes on, and says what it cannot judge."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from audit.readers.cluster import Cluster
from audit.terms import Offsets, Spot
from audit.whole import Auditor
from common.topics import EVENT_TOPICS, INVENTORY, METRICS_PARTIALS, MINUTE_VOLUMES, ORDERS_CREATED, Topic
from tests.audits import OUTCOMES, broken, commit, execute, grow, process, settings_of, trim, verdict
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import read, write_orders
from tests.stood import stood


def test_partitions_that_are_added_between_two_audits_are_read_from_their_beginning(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 100})
    old, new = make_order(), make_order()
    with Auditor(settings_of(pipeline)) as auditor:
        process(pipeline, [old])
        judgements = [auditor.audit(wait_seconds=10, followers=False)]
        for topic in (ORDERS_CREATED, *OUTCOMES):
            grow(pipeline, topic, 10)
        write_orders(pipeline, [new], partition=9)
        judgements.append(auditor.audit(wait_seconds=0.5, followers=False))

    assert [judgement.counts["orders"] for judgement in judgements] == [1, 2]
    assert [broken(judgement) for judgement in judgements] == [
        {},
        {"L1": ["no outcome in time: the inventory has not read orders.created 9@0"]},
    ]


def test_an_auditor_goes_on_behind_what_retention_took_while_it_read(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aim: the head goes between the question where it is and the first fetch."""
    write_orders(pipeline, [make_order() for _ in range(10)], partition=0)
    begins = Cluster.begins

    def trimmed_just_then(self: Cluster, topics: Iterable[Topic]) -> Offsets:
        found = begins(self, topics)
        trim(pipeline, ORDERS_CREATED, partition=0, to=6)
        return found

    monkeypatch.setattr(Cluster, "begins", trimmed_just_then)
    judgement = verdict(pipeline, wait_seconds=0)

    assert judgement.counts["orders"] == 4
    assert {rule: len(found) for rule, found in broken(judgement).items()} == {"L1": 5}
    assert "orders.created 0@0 to 5 were trimmed before the inventory had read them" in str(broken(judgement)["L1"])


def test_nothing_is_read_ahead_while_minutes_are_recounted(pipeline: Pipeline) -> None:
    """Red before: one who read ahead just then took the topics up that were deleted a moment later, and never read
    those that have their names now."""
    write_orders(pipeline, [make_order() for _ in range(3)], partition=0)
    recounted = [METRICS_PARTIALS, MINUTE_VOLUMES]
    with Auditor(settings_of(pipeline)) as auditor, ThreadPoolExecutor(1) as other:
        with auditor.recounting():
            reading = other.submit(auditor.read_ahead, {Spot(ORDERS_CREATED.name, 0): 3}, seconds=10)
            assert wait([reading], timeout=1).not_done
            pipeline.admin.delete_topics(recounted)
            pipeline.admin.create_topics(recounted)
        reading.result(20)
        judgement = auditor.audit(wait_seconds=0)
    assert "L2" not in broken(judgement)


def test_orders_whose_records_retention_took_are_judged_by_what_is_left(pipeline: Pipeline) -> None:
    """Aim: every topic loses its head. No order is accused, and what is spoilt in the tables is named all the same."""
    with stood(pipeline) as here:
        for topic in EVENT_TOPICS:
            for spot, end in {seen.partition: seen.offset + 1 for seen in read(pipeline, topic)}.items():
                trim(pipeline, topic, partition=spot, to=end)
        found = [here.broken()]
        for statement in (
            "DELETE FROM notification.ledger WHERE order_id = :id",
            "UPDATE orders.order_status SET status = 'pending', reason = NULL, decided_at = NULL WHERE order_id = :id",
            "UPDATE inventory.stock SET available = available - 1 WHERE sku = 'tea'",
        ):
            execute(pipeline, statement, id=here.failed)
            found.append(here.broken())

    assert [sorted(rules) for rules in found] == [[], ["S13", "S17"], ["S13", "S17"], ["S13", "S17", "S6"]]


def test_an_event_that_retention_cannot_have_taken_is_missed_behind_a_trimmed_head(pipeline: Pipeline) -> None:
    """Aim: the head of one partition goes; the event of a later order of the same partition was never written."""
    pipeline.set_stock({"tea": 100})
    first, second, lost = [make_order() for _ in range(3)]
    process(pipeline, [first, second])
    (at, *_) = [seen.partition for seen in read(pipeline, *OUTCOMES)]
    trim(pipeline, OUTCOMES[0], partition=at, to=1)
    assert broken(verdict(pipeline)) == {}

    write_orders(pipeline, [lost])
    own = [seen for seen in read(pipeline, ORDERS_CREATED) if lost.order_id.encode() in (seen.value or b"")]
    execute(
        pipeline,
        """
        INSERT INTO inventory.decision
        SELECT :lost, verdict, reason, gen_random_uuid(), event, topic, partition, :offset, skus, qtys, 0, decided_at
        FROM inventory.decision LIMIT 1
        """,
        lost=lost.order_id,
        offset=own[0].offset,
    )
    commit(pipeline, INVENTORY, ORDERS_CREATED, partition=own[0].partition, offset=own[0].offset + 1)

    assert "left behind by the inventory without an event" in broken(verdict(pipeline))["S5"]
