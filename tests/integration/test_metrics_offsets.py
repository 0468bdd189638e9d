"""An operator's hand on offsets and topics of the groups that count: no order is skipped, none is counted twice."""

import pytest

from common.topics import INVENTORY_RESERVED, METRICS, METRICS_PARTIALS, METRICS_TOTALS, Group
from onceloop.errors import ExitCode, ReportedError
from onceloop.records import Partition
from tests.operators import delete_records, ends, recreate, set_group
from tests.outcomes import LONG_AGO, QUICK, Outcomes, orders
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for
from tests.system.workers import FAST

MINUTE_MS = 60_000


def start(pipeline: Pipeline, step: str) -> Process:
    return pipeline.start("metrics_service", step, role="reader", env={**QUICK, **FAST})


def refused(pipeline: Pipeline, step: str, code: ExitCode, *words: str) -> None:
    process = start(pipeline, step)
    assert process.wait(timeout_seconds=30) == code, process.output()
    last = process.output().splitlines()[-1]
    assert all(word in last for word in words), last


@pytest.fixture
def outcomes(pipeline: Pipeline) -> Outcomes:
    return Outcomes(pipeline)


def counted(pipeline: Pipeline, outcomes: Outcomes) -> None:
    """Have both steps count two orders of one partition, and stop them."""
    outcomes.write([LONG_AGO, LONG_AGO + 1])
    processes = [start(pipeline, step) for step in ("windows", "totals")]
    wait_for(lambda: orders(pipeline) == {0: 2}, what="the minute")
    assert [process.stop() for process in processes] == [0, 0]


def forgotten(pipeline: Pipeline, *groups: Group) -> bool:
    """Have the broker forget groups; it refuses as long as they have members."""
    try:
        pipeline.admin.delete_groups(groups)
    except ReportedError:
        return False
    return True


def repaired(pipeline: Pipeline) -> str:
    """Run the command of the runbook as soon as the group's members are gone; return what it said."""
    said: list[str] = []

    def done() -> bool:
        process = pipeline.start("metrics_service", "repair", role="reader", env=QUICK)
        code = process.wait(timeout_seconds=30)
        said.append(process.output())
        assert code == 0 or "live members" in process.output(), process.output()
        return code == 0

    wait_for(done, what="the repair")
    return said[-1]


def test_group_that_was_set_ahead_counts_nothing_and_says_so(pipeline: Pipeline, outcomes: Outcomes) -> None:
    """Fault: `--to-latest` while outcomes wait, on a partition of which nothing is published yet."""
    counted(pipeline, outcomes)
    outcomes.write([LONG_AGO + MINUTE_MS], partition=5)
    quiet = Partition(INVENTORY_RESERVED.within(pipeline.namespace), 5)
    wait_for(lambda: ends(pipeline, INVENTORY_RESERVED)[quiet] == 2, what="the marker of the transaction")
    set_group(pipeline, METRICS, ends(pipeline, INVENTORY_RESERVED))
    outcomes.write([LONG_AGO + MINUTE_MS], partition=5)
    refused(pipeline, "windows", ExitCode.UNAVAILABLE, "set by hand, ahead of what is counted", "[5] at 2")
    assert len(read(pipeline, METRICS_PARTIALS)) == 1

    repaired(pipeline)
    start(pipeline, "windows")
    start(pipeline, "totals")
    wait_for(lambda: orders(pipeline) == {0: 2, 1: 2}, what="what was passed over, and nothing twice")
    assert len(read(pipeline, METRICS_PARTIALS)) == 2


def test_groups_that_the_broker_forgot_go_on_from_what_is_published(pipeline: Pipeline, outcomes: Outcomes) -> None:
    counted(pipeline, outcomes)
    outcomes.write([LONG_AGO, LONG_AGO + MINUTE_MS])
    wait_for(lambda: forgotten(pipeline, METRICS, METRICS_TOTALS), what="the end of the groups")
    repaired(pipeline)
    start(pipeline, "windows")
    start(pipeline, "totals")
    wait_for(lambda: orders(pipeline) == {0: 3, 1: 1}, what="the late order and the next minute")


def test_totals_group_that_was_set_ahead_adds_nothing_up_and_from_the_earliest_it_adds_up_all(
    pipeline: Pipeline, outcomes: Outcomes
) -> None:
    counted(pipeline, outcomes)
    counting = start(pipeline, "windows")
    outcomes.write([LONG_AGO + MINUTE_MS])
    wait_for(lambda: len(read(pipeline, METRICS_PARTIALS)) == 2, what="a partial that waits")
    set_group(pipeline, METRICS_TOTALS, ends(pipeline, METRICS_PARTIALS))
    outcomes.write([LONG_AGO + 2 * MINUTE_MS])
    refused(pipeline, "totals", ExitCode.UNAVAILABLE, "set by hand, ahead of what is counted")
    assert orders(pipeline) == {0: 2}

    set_group(pipeline, METRICS_TOTALS, dict.fromkeys(ends(pipeline, METRICS_PARTIALS), 0))
    start(pipeline, "totals")
    wait_for(lambda: orders(pipeline) == {0: 2, 1: 1, 2: 1}, what="all minutes, each revision once")
    assert counting.stop() == 0


def test_recreated_outcome_topic_is_found_by_the_next_start(pipeline: Pipeline, outcomes: Outcomes) -> None:
    counted(pipeline, outcomes)
    points = pipeline.admin.committed(METRICS)
    recreate(pipeline, INVENTORY_RESERVED)
    set_group(pipeline, METRICS, points)  # a commit in the last moment leaves them behind
    refused(pipeline, "windows", ExitCode.SOFTWARE, "was recreated", "A topic was recreated")


def test_retention_that_overtook_who_counts_is_named_with_what_is_lost(pipeline: Pipeline, outcomes: Outcomes) -> None:
    counted(pipeline, outcomes)
    outcomes.write([LONG_AGO + MINUTE_MS, LONG_AGO + MINUTE_MS + 1])
    delete_records(pipeline, INVENTORY_RESERVED, below={0: 4})
    refused(pipeline, "windows", ExitCode.UNAVAILABLE, "the committed offset is gone", "were deleted before")

    assert '"lost_offsets": 2' in repaired(pipeline)
    start(pipeline, "windows")
    start(pipeline, "totals")
    outcomes.write([LONG_AGO + 2 * MINUTE_MS])
    wait_for(lambda: 2 in orders(pipeline), what="the next minute")
    assert orders(pipeline) == {0: 2, 1: 1, 2: 1}
