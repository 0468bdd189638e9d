"""Lag from inside: what librdkafka's statistics say, against what is due in the loop."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from common.telemetry import OBSERVER
from onceloop.kafka.lag import LagGauges, Tail, left_over, tails
from onceloop.metrics import CONSUMER_LAG
from onceloop.records import Partition

AT = Partition("ns.orders.created", 3)
OTHER = Partition("ns.orders.created", 4)


def statistics(partition: Partition = AT, *, stable: int, read_to: int, queued: int = 0) -> str:
    found: dict[str, Any] = {"ls_offset": stable, "next_offset": read_to, "fetchq_cnt": queued}
    unassigned = {"ls_offset": -1001, "next_offset": -1001, "fetchq_cnt": 0}
    return json.dumps({"topics": {partition.topic: {"partitions": {str(partition.number): found, "-1": unassigned}}}})


@pytest.fixture
def gauges() -> Iterator[LagGauges]:
    gauges = LagGauges("inventory", topic_prefix="ns.", observer=OBSERVER)
    gauges.report({AT: 10, OTHER: 0})
    yield gauges
    gauges.rewound(())


def shown() -> dict[tuple[str, str, str], float]:
    return {
        (each.labels["group"], each.labels["topic"], each.labels["partition"]): each.value
        for family in REGISTRY.collect()
        if family.name == CONSUMER_LAG.name
        for each in family.samples
        if each.labels["group"] == "inventory"
    }


def lag() -> float | None:
    return shown().get(("inventory", "orders.created", "3"))


def test_partition_that_was_not_fetched_yet_is_left_out() -> None:
    assert tails(statistics(stable=-1001, read_to=-1001)) == {}
    assert tails("{}") == {}


def test_what_was_read_past_is_no_record__whatever_the_offsets_say() -> None:
    assert left_over(Tail(12, read_out=True), 10) == 0
    assert left_over(Tail(12, read_out=False), 10) == 2
    assert left_over(Tail(12, read_out=False), 15) == 0, "the end is older than the offset"


def test_client_has_read_out_once_it_holds_nothing_back() -> None:
    assert tails(statistics(stable=12, read_to=12)) == {AT: Tail(12, read_out=True)}
    assert tails(statistics(stable=12, read_to=12, queued=1)) == {AT: Tail(12, read_out=False)}
    assert tails(statistics(stable=12, read_to=11)) == {AT: Tail(12, read_out=False)}


def test_lag_goes_by_names_of_the_table_and_follows_the_loop(gauges: LagGauges) -> None:
    due = {AT: 10}
    gauges.report(due)
    assert shown() == {}, "where the partition ends is not known yet"
    gauges.learn(statistics(stable=110, read_to=60, queued=50))
    assert shown() == {("inventory", "orders.created", "3"): 100}
    due[AT] = 60
    gauges.report(due)
    assert lag() == 50
    gauges.learn(statistics(stable=112, read_to=112))
    assert lag() == 0, "markers alone lie there"


def test_rewind_brings_back_what_was_read_past_and_passes_statistics_from_before(gauges: LagGauges) -> None:
    gauges.learn(statistics(stable=110, read_to=110))
    assert lag() == 0
    gauges.rewound([AT])
    gauges.report({AT: 10})
    assert lag() == 100
    gauges.learn(statistics(stable=110, read_to=110))
    assert lag() == 100, "these were written before the rewind"
    gauges.learn(statistics(stable=110, read_to=110))
    assert lag() == 0


def test_worker_that_pauses_asks_the_broker_and_believes_no_statistics(gauges: LagGauges) -> None:
    gauges.learn(statistics(stable=12, read_to=12))
    gauges.paused()
    gauges.learn(statistics(stable=12, read_to=12))
    gauges.learn_ends({AT: 510})
    assert lag() == 500


def test_partition_that_is_held_keeps_the_end_that_the_broker_reported(gauges: LagGauges) -> None:
    gauges.learn_ends({AT: 510})
    gauges.learn(statistics(stable=12, read_to=12))
    assert lag() == 500


def test_partition_that_moved_away_is_shown_no_more(gauges: LagGauges) -> None:
    gauges.learn(statistics(stable=12, read_to=11))
    gauges.learn(statistics(OTHER, stable=7, read_to=1))
    assert len(shown()) == 2
    gauges.rewound([OTHER])
    assert shown() == {("inventory", "orders.created", "4"): 7}


def test_statistics_that_cannot_be_read_end_no_worker(gauges: LagGauges) -> None:
    gauges.learn("no JSON")
    gauges.learn('{"topics": {"a": {"partitions": {"0": {}}}}}')
    gauges.learn('{"topics": []}')
    assert shown() == {}
