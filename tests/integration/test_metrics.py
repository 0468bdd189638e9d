"""Both metrics processes on a real broker: minutes are counted once, whatever happens to who counts them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from common.events.volume import MINUTE_MS, minute_name
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, METRICS, METRICS_PARTIALS
from onceloop.records import CommitPoint, Partition
from tests.outcomes import LONG_AGO, QUICK, Outcomes, orders, totals
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write
from tests.system.workers import FAST


def start(pipeline: Pipeline, step: str, *, slot: int = 0, **env: str) -> Process:
    return pipeline.start("metrics_service", step, role="reader", slot=slot, env={**QUICK, **FAST, **env})


def test_quiet_shops_last_minute_is_published_and_a_late_order_revises_it(pipeline: Pipeline) -> None:
    """No newer event comes that could move a watermark: the wall clock closes it."""
    outcomes = Outcomes(pipeline)
    outcomes.write([LONG_AGO, LONG_AGO + 59_999, LONG_AGO + MINUTE_MS])
    outcomes.write([LONG_AGO], topic=INVENTORY_FAILED, partition=5)
    counting, adding = start(pipeline, "windows"), start(pipeline, "totals")
    wait_for(lambda: orders(pipeline) == {0: 3, 1: 1}, what="two minutes")
    first = totals(pipeline)[LONG_AGO]
    assert (first.reserved, first.failed, first.units, first.late) == (2, 1, 4, 0)

    outcomes.write([LONG_AGO + 5])
    wait_for(lambda: orders(pipeline) == {0: 4, 1: 1}, what="the revision")
    revised = totals(pipeline)[LONG_AGO]
    assert (revised.reserved, revised.late, revised.revision) == (3, 1, first.revision + 1)

    assert (counting.stop(), adding.stop()) == (0, 0)
    assert "offsets.empty" not in counting.output(), "markers are nothing special here"
    start(pipeline, "windows").wait_ready()
    start(pipeline, "totals").wait_ready()
    outcomes.write([LONG_AGO + 2 * MINUTE_MS])
    wait_for(lambda: orders(pipeline) == {0: 4, 1: 1, 2: 1}, what="the minute after the restart")
    committed = pipeline.admin.committed(METRICS)
    assert all(len(point.metadata) < 200 for point in committed.values())


def set_group(pipeline: Pipeline, points: Mapping[Partition, CommitPoint]) -> None:
    """Do what an operator does; the broker takes it once the group's members are gone."""
    client = AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
    group_id = METRICS.within(pipeline.namespace)
    asked = [TopicPartition(*at, point.offset, point.metadata) for at, point in points.items()]

    def taken() -> bool:
        request = ConsumerGroupTopicPartitions(group_id, asked)
        answer = client.alter_consumer_group_offsets([request])[group_id]
        return answer.exception() is None and not any(at.error for at in answer.result().topic_partitions)

    wait_for(taken, what="the group's offsets as asked for")


def test_worker_does_not_believe_offsets_that_lie_before_what_is_published(pipeline: Pipeline) -> None:
    """Aim: S12. Fault: the group stands at the beginning again, as a broker answers that is still loading it.

    Must hold: no minute is published twice; the worker pauses and says why; once the offsets are right, it goes on.
    """
    outcomes = Outcomes(pipeline)
    before = pipeline.admin.committed(METRICS)
    counting, adding = start(pipeline, "windows"), start(pipeline, "totals")
    outcomes.write([LONG_AGO, LONG_AGO + 1])
    wait_for(lambda: orders(pipeline) == {0: 2}, what="the minute")
    counting.stop()
    right = pipeline.admin.committed(METRICS)
    set_group(pipeline, before)

    doubter = start(pipeline, "windows")
    wait_for(lambda: "old committed offsets" in doubter.output(), what="a word about the offsets")
    doubter.stop()
    assert pipeline.admin.committed(METRICS) == before, "the worker commits nothing there"
    assert len(read(pipeline, METRICS_PARTIALS)) == 1

    set_group(pipeline, right)
    start(pipeline, "windows")
    outcomes.write([LONG_AGO + MINUTE_MS])
    wait_for(lambda: 1 in orders(pipeline), what="the next minute")
    assert orders(pipeline) == {0: 2, 1: 1}
    assert adding.stop() == 0


def test_command_shows_the_minutes_and_says_when_there_are_none(pipeline: Pipeline, tmp_path: Path) -> None:
    def shown(*arguments: str) -> str:
        command = (sys.executable, "-m", "deploy.cli.main", "metrics", "--home", str(tmp_path / "none"), *arguments)
        env = {**os.environ, **pipeline.env("reader")}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True).stdout

    assert "No minute is counted yet" in shown()
    Outcomes(pipeline).write([LONG_AGO, LONG_AGO + 1])
    start(pipeline, "windows")
    start(pipeline, "totals")
    wait_for(lambda: orders(pipeline) == {0: 2}, what="the minute")
    printed = json.loads(shown("--json"))
    assert [(each["minute"], each["orders"], each["units"]) for each in printed] == [(minute_name(LONG_AGO), 2, 4)]


def test_unreadable_outcome_is_a_dead_letter_of_the_metrics__and_its_partition_goes_on(pipeline: Pipeline) -> None:
    write(pipeline, INVENTORY_RESERVED, [(b"ada", b"nonsense")], partition=0)
    Outcomes(pipeline).write([LONG_AGO])
    start(pipeline, "windows").wait_ready()
    start(pipeline, "totals").wait_ready()
    wait_for(lambda: orders(pipeline) == {0: 1}, what="the minute")
    letters = [topic for topic in pipeline.topics if topic.name == "inventory.reserved.metrics.dlq"]
    assert [(seen.value, seen.headers["dlq_offset"]) for seen in read(pipeline, *letters)] == [(b"nonsense", b"0")]


def test_two_workers_share_the_partitions_and_count_each_order_once(pipeline: Pipeline) -> None:
    """The second comes while windows are open, the first leaves while they are: partitions move both times."""
    outcomes = Outcomes(pipeline)
    first = start(pipeline, "windows").wait_ready()
    start(pipeline, "totals").wait_ready()
    for number in range(8):
        outcomes.write([LONG_AGO + number, LONG_AGO + MINUTE_MS + number], partition=number)
    second = start(pipeline, "windows", slot=1).wait_ready()
    wait_for(lambda: "assignment" in first.output(), what="the rebalance")
    for number in range(8):
        outcomes.write([LONG_AGO + number], partition=number)
    first.kill()
    for number in range(8):
        outcomes.write([LONG_AGO + MINUTE_MS + number], partition=number)
    wait_for(lambda: orders(pipeline) == {0: 16, 1: 16}, what="all orders in their minutes")
    assert second.stop() == 0
