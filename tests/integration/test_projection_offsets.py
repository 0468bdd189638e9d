"""An operator changes the offsets and topics of the group `order-status`, whose progress is in the database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from common.postgres.engine import create_engine
from common.topics import ORDER_STATUS, ORDERS_CREATED
from onceloop.errors import ExitCode
from order_service.io.projection import TOPICS
from order_service.io.status_store import StatusStore
from tests.api import start_projection
from tests.commands import Shell, blocks
from tests.factories import make_order
from tests.operators import delete_records, ends, recreate, set_group
from tests.pipeline import Pipeline
from tests.records import wait_for, write_orders

_, ENVIRONMENT_AND_REPAIR = blocks("docs/runbook.md", "Setting the offsets of the other groups")
REPAIR = ENVIRONMENT_AND_REPAIR.splitlines()[-1]
"""Outside of a local stack the variables come from elsewhere; here, from the test."""
UNKNOWN = blocks("docs/runbook.md", "Retention overtook a group")[1]


@pytest.fixture
def shell(pipeline: Pipeline, tmp_path: Path) -> Shell:
    return Shell(pipeline, tmp_path)


def repair(pipeline: Pipeline, shell: Shell) -> str:
    return shell.run(REPAIR, check=True, **pipeline.env("order_rw"))


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return make_pipeline(partitions=1)


@pytest.fixture
def store(pipeline: Pipeline) -> Iterator[StatusStore]:
    engine = create_engine(pipeline.postgres("order_rw"), application="test", pool_size=1, autocommit=True)
    yield StatusStore(engine)
    engine.dispose()


def place(pipeline: Pipeline, orders: int) -> list[str]:
    placed = [make_order(user_id=f"u{number}") for number in range(orders)]
    write_orders(pipeline, placed)
    return [order.order_id for order in placed]


def wait_known(store: StatusStore, order_ids: list[str]) -> None:
    wait_for(lambda: all(store.find(order_id) for order_id in order_ids), what="all orders")


def refused(pipeline: Pipeline, code: ExitCode, *words: str) -> None:
    projection = start_projection(pipeline)
    assert projection.wait(timeout_seconds=30) == code, projection.output()
    last = projection.output().splitlines()[-1]
    assert all(word in last for word in words), last


def test_group_that_is_set_to_the_end_passes_over_nothing(pipeline: Pipeline, store: StatusStore) -> None:
    """Faults: `--to-latest` before the first start, then again while orders wait: offsets are kept with the data."""
    for _ in range(2):
        waiting = place(pipeline, 3)
        set_group(pipeline, ORDER_STATUS, ends(pipeline, *TOPICS))
        projection = start_projection(pipeline)
        wait_known(store, waiting)
        projection.kill()


def test_recreated_topic_ends_a_running_projection_and_every_restart(
    pipeline: Pipeline, store: StatusStore, shell: Shell
) -> None:
    projection = start_projection(pipeline).wait_ready()
    wait_known(store, place(pipeline, 3))
    recreate(pipeline, ORDERS_CREATED)
    # The id is seen to differ, or the new topic to be shorter; both name the same entry.
    assert projection.wait(timeout_seconds=20) in {ExitCode.SOFTWARE, ExitCode.UNAVAILABLE}, projection.output()
    assert "A topic was recreated" in projection.output().splitlines()[-1]
    waiting = place(pipeline, 3)
    pipeline.admin.write_first_offsets(pipeline.topics)
    refused(pipeline, ExitCode.SOFTWARE, "was recreated", "A topic was recreated")

    assert "recreated -> 0" in repair(pipeline, shell)
    start_projection(pipeline)
    wait_known(store, waiting)


def test_topic_recreated_while_no_process_ran_is_found_by_the_next_start(
    pipeline: Pipeline, store: StatusStore
) -> None:
    projection = start_projection(pipeline).wait_ready()
    wait_known(store, place(pipeline, 3))
    assert projection.stop() == 0
    recreate(pipeline, ORDERS_CREATED)
    place(pipeline, 5)
    pipeline.admin.write_first_offsets(pipeline.topics)
    refused(pipeline, ExitCode.SOFTWARE, "was recreated")


def test_position_of_an_older_version_is_believed_and_marked(pipeline: Pipeline, store: StatusStore) -> None:
    projection = start_projection(pipeline).wait_ready()
    wait_known(store, place(pipeline, 3))
    assert projection.stop() == 0
    with pipeline.administer() as connection:
        connection.execute(sa.text("UPDATE orders.projection_offset SET topic_id = ''"))
    start_projection(pipeline)
    wait_known(store, place(pipeline, 1))
    with pipeline.administer() as connection:
        assert connection.execute(sa.text("SELECT topic_id FROM orders.projection_offset")).scalar_one()


def test_retention_that_overtook_the_projection_is_named_with_what_is_lost(
    pipeline: Pipeline, store: StatusStore, shell: Shell
) -> None:
    projection = start_projection(pipeline).wait_ready()
    wait_known(store, place(pipeline, 3))
    assert projection.stop() == 0
    waiting = place(pipeline, 4)
    delete_records(pipeline, ORDERS_CREATED, below={0: 5})
    refused(pipeline, ExitCode.UNAVAILABLE, "the committed offset is gone", "up to 2 records, from 3 to 4")

    assert "up to 2 records are lost -> 5" in repair(pipeline, shell)
    start_projection(pipeline)
    wait_known(store, waiting[2:])
    assert [store.find(order_id) for order_id in waiting[:2]] == [None, None]
    assert "(0 rows)" in shell.run(UNKNOWN), "the two were never decided either"
