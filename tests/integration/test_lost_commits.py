"""A connection that is lost around COMMIT: the batch is run again whole, and what was done is found, not done twice."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from chaos.wire.proxy import COMMIT, PostgresProxy
from chaos.wire.relay import Action, Direction
from common.postgres.hot import hot_connection
from inventory_service.io.decision_store import GUARDS
from onceloop import failpoints
from onceloop.postgres import options
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import rerun
from tests.batches import reserve
from tests.books import Books, open_books, some_id, some_sku
from tests.records import wait_for
from tests.stack import Stack


@pytest.fixture(scope="module")
def books(servers: Stack) -> Iterator[Books]:
    with open_books(servers) as books:
        yield books


@pytest.fixture
def connection(books: Books) -> Iterator[HotConnection]:
    with hot_connection(books.postgres("inventory_rw"), application="inventory-test") as connection:
        yield connection


@pytest.mark.parametrize(
    ("point", "replays"),
    [("test:decided", 0), ("inventory:db.sent", 1)],
    ids=["before the transaction", "after COMMIT was sent"],
)
def test_batch_whose_connection_was_killed_is_done_once(
    books: Books, connection: HotConnection, monkeypatch: pytest.MonkeyPatch, point: str, replays: int
) -> None:
    tea, order_id = some_sku(), some_id()
    books.set_stock({tea: 10})
    kills: list[int] = []

    def kill_once(name: str) -> None:
        if name == point and not kills:
            kills.append(connection.get().info.backend_pid)
            books.terminate(kills[0])
            if point == "inventory:db.sent":
                raise psycopg.OperationalError("the answer to COMMIT was lost")

    monkeypatch.setattr(failpoints, "point", kill_once)
    event_id = rerun(reserve(order_id, tea, 4), connection, guards=GUARDS)
    assert len(kills) == 1
    assert connection.get().info.backend_pid != kills[0]
    assert books.available(tea) == {tea: 6}
    found = books.decision(order_id)
    assert (str(found.event_id), found.replays) == (event_id, replays)


def test_session_that_is_killed_while_it_waits_for_a_lock_is_done_once(books: Books, connection: HotConnection) -> None:
    tea, order_id = some_sku(), some_id()
    books.set_stock({tea: 10})
    done: list[str] = []
    pid = connection.get().info.backend_pid
    worker = threading.Thread(target=lambda: done.append(rerun(reserve(order_id, tea, 4), connection, guards=GUARDS)))
    with (
        hot_connection(books.postgres("inventory_rw"), application="holder") as holder,
        holder.get().transaction(),
    ):
        holder.get().execute("SELECT 1 FROM inventory.stock WHERE sku = %s FOR UPDATE", [tea])
        worker.start()
        wait_for(lambda: books.waits_for_lock(pid), what="a session that waits for a lock")
        books.terminate(pid)
    worker.join(20)
    assert len(done) == 1
    assert books.available(tea) == {tea: 6}


def test_commit_that_warns_is_a_lost_connection__the_answer_is_read_again(
    books: Books, connection: HotConnection
) -> None:
    """H24: a warning says that the wait for a synchronous standby was cancelled; a fail-over may take the row away.

    Here a deferred trigger warns at COMMIT; the client sees the same notice before the same answer.
    """
    tea, order_id = some_sku(), some_id()
    books.set_stock({tea: 10})
    books.execute(
        """
        CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE WARNING 'canceling wait for synchronous replication due to user request';
            RETURN NULL;
        END $$
        """
    )
    books.execute(
        f"""
        CREATE CONSTRAINT TRIGGER warn_once AFTER INSERT ON inventory.decision DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (new.order_id = '{order_id}') EXECUTE FUNCTION warn()
        """
    )
    before = connection.get().info.backend_pid
    event_id = rerun(reserve(order_id, tea, 4), connection, guards=GUARDS)
    assert connection.get().info.backend_pid != before
    assert books.available(tea) == {tea: 6}
    assert (str(books.decision(order_id).event_id), books.decision(order_id).replays) == (event_id, 1)


@pytest.mark.parametrize("released", [True, False], ids=["until it commits", "until the server ends it"])
def test_key_held_open_by_a_live_backend_is_waited_for_and_decided_once(
    books: Books, monkeypatch: pytest.MonkeyPatch, *, released: bool
) -> None:
    """H23: a worker that stops in mid-send leaves a transaction that holds the order's key and its stock.

    Fault: one worker's COMMIT is held on the way while another decides the same order. Must hold: the other waits; if
    the COMMIT arrives it repeats that answer, if not the server ends the holder and it decides; stock is taken once,
    and both return the same event.
    """
    monkeypatch.setitem(options.SESSION, "transaction_timeout", "8s" if released else "3s")
    tea, order_id = some_sku(), some_id()
    books.set_stock({tea: 10})
    returned: dict[str, str] = {}
    with (
        PostgresProxy(books.address) as proxy,
        hot_connection(books.postgres("inventory_rw", port=proxy.port), application="stopped") as stopped,
        hot_connection(books.postgres("inventory_rw"), application="other") as other,
    ):
        held = proxy.rule(COMMIT, direction=Direction.REQUEST, action=Action.HOLD, seconds=10)
        holder, pid = stopped.get().info.backend_pid, other.get().info.backend_pid

        def work(name: str, connection: HotConnection) -> None:
            returned[name] = rerun(reserve(order_id, tea, 4), connection, guards=GUARDS)

        workers = [
            threading.Thread(target=work, args=each, daemon=True) for each in (("stopped", stopped), ("other", other))
        ]
        workers[0].start()
        held.wait()
        wait_for(lambda: takes_stock(books, holder), what="a holder that the server has brought as far as the COMMIT")
        workers[1].start()
        wait_for(lambda: books.waits_for_lock(pid), what="the other worker waits for the key")
        if not released:
            workers[1].join(7)
            assert "other" in returned, "it goes on although the holder sends nothing"
        held.release()
        for worker in workers:
            worker.join(20)
    assert returned["stopped"] == returned["other"] == str(books.decision(order_id).event_id)
    assert books.decision(order_id).replays == 1
    assert books.available(tea) == {tea: 6}


def takes_stock(books: Books, pid: int) -> bool:
    """Return True if this session's open transaction has changed stock, and so recorded decisions before."""
    found = books.execute(
        "SELECT count(*) FROM pg_locks WHERE pid = :pid AND mode = 'RowExclusiveLock'"
        " AND relation = CAST('inventory.stock' AS regclass)",
        pid=pid,
    )
    return bool(found.scalar_one())
