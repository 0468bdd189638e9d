"""The checker while operators trim topics and add partitions: it goes on, and says what it cannot judge."""

from collections.abc import Iterable

import pytest

from chaos.checker.audit import Auditor
from chaos.checker.cluster import Cluster
from chaos.checker.terms import Offsets
from common.topics import ORDERS_CREATED, Topic
from tests.audits import OUTCOMES, broken, grow, process, settings_of, trim, verdict
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import write_orders


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
