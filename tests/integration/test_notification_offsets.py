"""An operator changes offsets and topics of the group `notification`: no customer is passed over or notified twice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from common.events.inventory import InventoryReserved
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION
from onceloop.errors import ExitCode
from onceloop.records import CommitPoint, Partition
from tests.commands import Shell, blocks
from tests.mail import MailServer, serving
from tests.notifications import by_mail, ledger, make_reserved, start_worker, wait_published, write_outcomes, written
from tests.operators import delete_records, ends, recreate, set_group
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import wait_for, write

FIRST = 0
REPAIR = blocks("docs/runbook.md", "Setting the offsets of the other groups")[0]
WHO_HEARD_NOTHING = blocks("docs/runbook.md", "Retention overtook a group")[0]


@pytest.fixture
def shell(pipeline: Pipeline, tmp_path: Path) -> Shell:
    return Shell(pipeline, tmp_path)


def decide(pipeline: Pipeline, *outcomes: InventoryReserved) -> None:
    """Have the decisions that these outcomes report in the table."""
    with pipeline.administer() as connection:
        connection.execute(
            sa.text(
                'INSERT INTO inventory.decision (order_id, verdict, event_id, event, topic, partition, "offset", skus,'
                " qtys, decided_at) VALUES (:order_id, 1, :event_id, '', 'orders.created', 0, :at, '{}', '{}', now())"
            ),
            [{"order_id": o.order_id, "event_id": o.event_id, "at": n} for n, o in enumerate(outcomes)],
        )


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return make_pipeline(partitions=1)


def stopped_after(pipeline: Pipeline, outcomes: int) -> Process:
    """Let a worker notify of so many outcomes, and stop it."""
    reserved = [make_reserved(f"before {number}") for number in range(outcomes)]
    write_outcomes(pipeline, *reserved)
    worker = start_worker(pipeline)
    wait_published(pipeline, *reserved)
    wait_for(lambda: stands(pipeline).offset == outcomes, what="the commit")
    assert worker.stop() == 0
    return worker


def stands(pipeline: Pipeline) -> CommitPoint:
    return pipeline.admin.committed(NOTIFICATION)[at(pipeline)]


def at(pipeline: Pipeline) -> Partition:
    return Partition(INVENTORY_RESERVED.within(pipeline.namespace), FIRST)


def refused(pipeline: Pipeline, code: ExitCode, *words: str) -> None:
    worker = start_worker(pipeline)
    assert worker.wait(timeout_seconds=30) == code, worker.output()
    last = worker.output().splitlines()[-1]
    assert all(word in last for word in words), last


def test_offsets_set_ahead_of_the_work_are_refused__set_back_no_customer_is_notified_twice(
    pipeline: Pipeline, shell: Shell
) -> None:
    """Fault: `--to-latest` while outcomes wait. Must hold: the worker ends and says so, the way out that it names
    notifies all that wait, and no customer a second time."""
    stopped_after(pipeline, 5)
    waiting = [make_reserved(f"waiting {number}") for number in range(5)]
    write_outcomes(pipeline, *waiting)
    set_group(pipeline, NOTIFICATION, ends(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))
    refused(pipeline, ExitCode.UNAVAILABLE, "set ahead of its work", "no customer was notified of 9", "runbook")
    assert len(ledger(pipeline)) == 5

    assert "[0] 10: set by hand" in shell.run(REPAIR)
    assert "nothing to set" in shell.run(REPAIR)
    worker = start_worker(pipeline)
    wait_published(pipeline, *waiting)
    wait_for(lambda: stands(pipeline).offset == 10, what="the commit")
    assert [row.attempts for row in ledger(pipeline).values()] == [1] * 10
    assert [written(worker, outcome) for outcome in waiting] == [1] * 5


def test_offsets_of_an_older_version_are_believed(pipeline: Pipeline) -> None:
    """They have no mark, as those set by hand; the newest record may be one that never was an outcome."""
    stopped_after(pipeline, 3)
    write(pipeline, INVENTORY_RESERVED, [(b"k", b"garbage")], partition=FIRST)
    set_group(pipeline, NOTIFICATION, {at(pipeline): 4})
    later = make_reserved("later")
    start_worker(pipeline).wait_ready()
    write_outcomes(pipeline, later)
    wait_published(pipeline, later)
    wait_for(lambda: stands(pipeline).offset == 5, what="the commit")
    assert stands(pipeline).metadata, "from now on it is marked"


def test_claimed_is_not_sent__an_offset_behind_a_claim_alone_is_refused(pipeline: Pipeline) -> None:
    """Fault: the mail server is away, the batch is claimed, an operator sets the group to the end."""
    no_server = by_mail(pipeline.processes.free_port())
    write_outcomes(pipeline, make_reserved("ada"), make_reserved("bob"))
    worker = start_worker(pipeline, env=no_server)
    wait_for(lambda: len(ledger(pipeline)) == 2, what="the claims")
    worker.kill()
    set_group(pipeline, NOTIFICATION, {at(pipeline): 2})
    refused(pipeline, ExitCode.UNAVAILABLE, "no customer was notified of 1")


def test_recreated_topic_ends_a_running_worker_and_every_restart(pipeline: Pipeline, shell: Shell) -> None:
    """Fault: the new topic is as long as the old one, so the worker's offset fits and lies behind what waits."""
    written_before = [make_reserved(f"old {number}") for number in range(3)]
    worker = start_worker(pipeline).wait_ready()
    write_outcomes(pipeline, *written_before)
    wait_published(pipeline, *written_before)
    wait_for(lambda: stands(pipeline).offset == 3, what="the commit")
    point = stands(pipeline)

    recreate(pipeline, INVENTORY_RESERVED)
    # The id is seen to differ, or the new topic to be shorter; both name the same entry.
    assert worker.wait(timeout_seconds=20) in {ExitCode.SOFTWARE, ExitCode.UNAVAILABLE}, worker.output()
    assert "A topic was recreated" in worker.output().splitlines()[-1]
    waiting = [make_reserved(f"new {number}") for number in range(3)]
    write_outcomes(pipeline, *waiting)
    set_group(pipeline, NOTIFICATION, {at(pipeline): point})  # a commit in the last moment leaves it behind
    refused(pipeline, ExitCode.SOFTWARE, "was recreated", "A topic was recreated")

    assert "recreated -> 0" in shell.run(REPAIR)
    start_worker(pipeline)
    wait_published(pipeline, *waiting)


def test_retention_that_overtook_the_group_is_named_with_what_is_lost(pipeline: Pipeline, shell: Shell) -> None:
    stopped_after(pipeline, 5)
    lost, left = [make_reserved("lost") for _ in range(3)], make_reserved("left")
    write_outcomes(pipeline, *lost, left)
    delete_records(pipeline, INVENTORY_RESERVED, below={FIRST: 8})
    refused(
        pipeline,
        ExitCode.UNAVAILABLE,
        "the committed offset is gone",
        "up to 3 records, from 5 to 7",
        "Retention overtook",
    )

    assert "up to 3 records are lost -> 8" in shell.run(REPAIR)
    start_worker(pipeline)
    wait_published(pipeline, left)
    decide(pipeline, *lost, left)
    unheard = shell.run(WHO_HEARD_NOTHING)
    assert all(outcome.order_id in unheard for outcome in lost)
    assert left.order_id not in unheard


def test_recipient_who_was_refused_is_not_forgotten__the_offset_behind_the_dead_letter_is_believed(
    pipeline: Pipeline,
) -> None:
    """An older version's offset, unmarked; its newest outcome is claimed for ever, since the mail server refuses it."""
    port, server = pipeline.processes.free_port(), MailServer()
    server.replies["eve@customers.example"] = "550 5.1.1 no such mailbox"
    with serving(server, port):
        write_outcomes(pipeline, make_reserved("eve"), partition=FIRST)
        worker = start_worker(pipeline, env=by_mail(port))
        wait_for(lambda: stands(pipeline).offset == 1, what="the commit")
        assert worker.stop() == 0
        set_group(pipeline, NOTIFICATION, {at(pipeline): 1})
        later = make_reserved("ada")
        start_worker(pipeline, env=by_mail(port)).wait_ready()
        write_outcomes(pipeline, later)
        wait_published(pipeline, later)
