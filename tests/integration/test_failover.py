"""A database that fails over: what was published survives, and what was not may be decided again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from common.postgres.hot import hot_connection
from inventory_service.io.decision_store import GUARDS
from onceloop.errors import Busy
from onceloop.postgres.bounded import BoundedConnection
from onceloop.postgres.guards.tables import GuardTables
from onceloop.postgres.retry import rerun
from onceloop.records import CommitPoint, Partition
from tests.batches import reserve
from tests.books import some_id
from tests.replica import DATABASE, Pair, open_pair

ROLE = "inventory_rw"


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with open_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


def test_what_the_standby_lacks_is_never_published(pair: Pair) -> None:
    """H24, H25, H26: a row that a fail-over takes away must not have left as an event.

    Fault: the standby is cut off and an operator cancels the waits for it; the orders are delivered again, one of
    them decided before; then the standby is promoted while the old primary stays up, and at last the old one dies.
    Must hold: nothing is published that the new primary does not know, the old primary alone lets nothing out, and
    afterwards each order is decided once.
    """
    before, during = some_id(), some_id()
    with pair.primary.connect(DATABASE) as admin:
        admin.execute("INSERT INTO inventory.stock VALUES ('tea', 10, 10)")
    # A standby in front is passed over: it does not write.
    with hot_connection(
        pair.postgres(ROLE, pair.standby, pair.primary),
        application="worker",
    ) as worker:
        answer = rerun(reserve(before, "tea", 4), worker, guards=GUARDS)
        assert port_of(worker.get()) == pair.primary.port

        pair.replication.cut()
    with (
        cancelled_waits(pair),
        hot_connection(
            pair.postgres(ROLE, pair.primary),
            application="worker",
        ) as worker,
    ):
        for order_id in (during, during, before):  # new, then found in the old primary alone, then found and replicated
            with pytest.raises(Busy):
                rerun(reserve(order_id, "tea", 4), worker, guards=GUARDS)
        assert decisions(pair.primary.connect(DATABASE)) == {before, during}, "the row is there, and was not published"

        pair.promote()
        with pytest.raises(Busy):
            rerun(
                reserve(during, "tea", 4), worker, guards=GUARDS
            )  # the old primary still takes writes, and confirms none
    pair.kill_primary()

    with hot_connection(
        pair.postgres(ROLE, pair.primary, pair.standby),
        application="worker",
    ) as worker:
        assert decisions(pair.standby.connect(DATABASE)) == {before}
        assert rerun(reserve(before, "tea", 4), worker, guards=GUARDS) == answer, "the stored answer"
        rerun(reserve(during, "tea", 4), worker, guards=GUARDS)
    with pair.standby.connect(DATABASE) as admin:
        assert admin.execute("SELECT available FROM inventory.stock").fetchone() == (2,)


def test_note_of_progress_waits_for_no_standby(pair: Pair) -> None:
    """It is a lower bound, true also if it is lost: a worker would wait for the standby twice a batch."""
    at = Partition("orders.created", 0)
    with hot_connection(pair.postgres(ROLE, pair.primary), application="worker") as worker:
        connection = worker.get()
        assert isinstance(connection, BoundedConnection)
        connection.answer_seconds = 3.0
        tables = GuardTables("inventory")
        pair.replication.cut()
        tables.note(connection, {at: CommitPoint(7)})
        assert tables.noted(connection, [at]) == {at: 7}
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",), "of that one statement alone"


@contextmanager
def cancelled_waits(pair: Pair) -> Iterator[None]:
    """Cancel every wait for the standby, as an impatient person does: PostgreSQL's own time-outs leave it alone."""
    over = threading.Event()

    def cancel() -> None:
        with pair.primary.connect() as admin:
            while not over.wait(0.02):
                admin.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    impatient = threading.Thread(target=cancel)
    impatient.start()
    try:
        yield
    finally:
        over.set()
        impatient.join(10)


def port_of(connection: psycopg.Connection) -> int:
    return connection.info.port


def decisions(connection: psycopg.Connection) -> set[str]:
    with connection:
        return {str(row[0]) for row in connection.execute("SELECT order_id FROM inventory.decision").fetchall()}
