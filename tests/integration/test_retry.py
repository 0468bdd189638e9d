"""What a failed attempt on the database leads to: again at once, again later, on a new connection, or not at all."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import psycopg
import pytest

from common.postgres.hot import hot_connection
from onceloop.errors import Busy, ContractError, Poison
from onceloop.postgres import retry
from onceloop.postgres.bounded import BoundedConnection
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import ATTEMPTS_MAX, DIVISION_BY_ZERO, rerun
from tests.books import Books, open_books
from tests.forwarder import Forwarder
from tests.records import wait_for
from tests.stack import Stack

Work = Callable[[psycopg.Connection], int]
GUARDS = frozenset({"account_pkey", "balance_ge_0", DIVISION_BY_ZERO})
"""As a second service would name them."""


@pytest.fixture(scope="module")
def books(servers: Stack) -> Iterator[Books]:
    with open_books(servers) as books:
        yield books


@pytest.fixture
def connection(books: Books) -> Iterator[HotConnection]:
    with hot_connection(books.postgres("inventory_rw"), application="retry-test") as connection:
        yield connection


class Attempts:
    """Work that fails by these statements, one per attempt, and then succeeds; it remembers who served it."""

    def __init__(self, *failures: str) -> None:
        self._failures = list(failures)
        self.backends: list[int] = []
        self.connections: list[psycopg.Connection] = []

    def __call__(self, connection: psycopg.Connection) -> int:
        self.backends.append(connection.info.backend_pid)
        self.connections.append(connection)
        if self._failures:
            connection.execute("BEGIN")
            connection.execute(self._failures.pop(0).encode(), prepare=False)
        connection.execute("SELECT 1")
        return len(self.backends)


def raising(sqlstate: str, *, constraint: str = "") -> str:
    """Return a statement by which the server itself fails with this state."""
    name = f", CONSTRAINT = '{constraint}'" if constraint else ""
    return f"DO $$ BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '{sqlstate}'{name}; END $$"


@pytest.mark.parametrize(
    "failure",
    [
        raising("23505", constraint="account_pkey"),
        raising("23514", constraint="balance_ge_0"),
        "SELECT 1 / 0",
        raising("40P01"),
        raising("40001"),
        raising("55P03"),
        raising("57014"),
    ],
)
def test_attempt_that_another_worker_got_ahead_of_is_made_again_on_the_same_connection(
    connection: HotConnection, failure: str
) -> None:
    work = Attempts(failure)
    assert rerun(work, connection, guards=GUARDS) == 2
    assert work.backends[0] == work.backends[1]


@pytest.mark.parametrize(
    ("failure", "constraint"),
    [
        (raising("23505", constraint="decision_pkey"), "decision_pkey"),
        (raising("23514", constraint="stock_available_ge_0"), "stock_available_ge_0"),
        (raising("23503", constraint="account_owner_fkey"), "account_owner_fkey"),
        (raising("23P01", constraint="booking_overlaps"), "booking_overlaps"),
        ("INSERT INTO inventory.start VALUES ('t', 0, 0, 0)", "start_starts_ge_1"),
    ],
)
def test_constraint_that_the_caller_does_not_name_is_loud__and_never_poison(
    connection: HotConnection, failure: str, constraint: str
) -> None:
    """Guards are the caller's, not the library's: another service's unique violation means a lost race."""
    work = Attempts(failure)
    with pytest.raises(ContractError, match=constraint) as refused:
        rerun(work, connection, guards=GUARDS)
    assert refused.value.cure
    assert len(work.backends) == 1
    assert rerun(Attempts(), connection) == 1


@pytest.mark.parametrize("failure", [raising("57P01"), raising("08006"), raising("25006"), raising("25P04")])
def test_attempt_whose_connection_is_of_no_use_is_made_again_on_a_new_one(
    connection: HotConnection, failure: str
) -> None:
    work = Attempts(failure)
    assert rerun(work, connection) == 2
    assert work.backends[0] != work.backends[1]
    assert work.connections[0].closed


def test_session_that_the_server_ends_is_replaced(connection: HotConnection) -> None:
    work = Attempts("SELECT pg_terminate_backend(pg_backend_pid())")
    assert rerun(work, connection) == 2
    assert work.backends[0] != work.backends[1]


def test_write_on_a_server_that_turned_read_only_goes_to_a_new_connection(connection: HotConnection) -> None:
    work = Attempts(
        "SET TRANSACTION READ ONLY; INSERT INTO inventory.input_topic VALUES ('t', 'id')"  # as on a former primary
    )
    assert rerun(work, connection) == 2
    assert work.backends[0] != work.backends[1]


def test_statement_that_waits_too_long_for_a_lock_is_made_again(books: Books, connection: HotConnection) -> None:
    books.set_stock({"locked": 1})
    connection.get().execute("SET lock_timeout = '50ms'")
    waited = []

    def work(session: psycopg.Connection) -> None:
        waited.append(time.monotonic())
        session.execute("SELECT 1 FROM inventory.stock WHERE sku = 'locked' FOR UPDATE")

    with (
        hot_connection(books.postgres("inventory_rw"), application="holder") as holder,
        holder.get().transaction(),
    ):
        holder.get().execute("SELECT 1 FROM inventory.stock WHERE sku = 'locked' FOR UPDATE")
        with pytest.raises(Busy):
            rerun(work, connection)
    assert len(waited) == ATTEMPTS_MAX
    rerun(work, connection)


def test_attempts_end(connection: HotConnection) -> None:
    work = Attempts(*[raising("40001")] * 100)
    with pytest.raises(Busy):
        rerun(work, connection)
    assert len(work.backends) == ATTEMPTS_MAX


def test_time_for_all_attempts_ends_too(connection: HotConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BUDGET_SECONDS", 0.0)
    work = Attempts(*[raising("40001")] * 100)
    with pytest.raises(Busy):
        rerun(work, connection)
    assert len(work.backends) == 1


@pytest.mark.parametrize("sqlstate", ["53100", "53200", "53300"])
def test_server_that_is_out_of_something_is_left_alone_at_once(connection: HotConnection, sqlstate: str) -> None:
    work = Attempts(raising(sqlstate))
    with pytest.raises(Busy, match=sqlstate):
        rerun(work, connection)
    assert len(work.backends) == 1
    assert rerun(Attempts(), connection) == 1


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("SELECT 'no number'::int", "22P02"),
        ("SELECT 2147483648::bigint::int", "22003"),
    ],
)
def test_value_that_the_server_rejects_is_poison_at_once(connection: HotConnection, failure: str, message: str) -> None:
    work = Attempts(failure)
    with pytest.raises(Poison, match=message):
        rerun(work, connection)
    assert len(work.backends) == 1
    assert rerun(Attempts(), connection) == 1


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("SELECT * FROM inventory.no_such_table", psycopg.errors.UndefinedTable),
        ("DELETE FROM inventory.decision", psycopg.errors.InsufficientPrivilege),
        ("SELEC", psycopg.errors.SyntaxError),
        ("SELECT 1 / 0", psycopg.errors.DivisionByZero),
        ("INSERT INTO inventory.input_topic (topic) VALUES ('t')", psycopg.errors.NotNullViolation),
    ],
)
def test_bug_is_raised_as_it_came__no_retry_no_dead_letter(
    connection: HotConnection, failure: str, error: type[psycopg.Error]
) -> None:
    work = Attempts(failure)
    with pytest.raises(error):
        rerun(work, connection)
    assert len(work.backends) == 1


def test_nothing_of_a_failed_attempt_stays_behind(books: Books, connection: HotConnection) -> None:
    attempts = []

    def work(session: psycopg.Connection) -> None:
        attempts.append(session)
        session.execute("BEGIN")
        session.execute("INSERT INTO inventory.input_topic VALUES ('once', 'id')")
        if len(attempts) == 1:
            session.execute("SELECT 1 / 0")
        session.execute("COMMIT")

    rerun(work, connection, guards=GUARDS)
    assert books.execute("SELECT count(*) FROM inventory.input_topic WHERE topic = 'once'").scalar_one() == 1


# --- a server that is away --------------------------------------------------------------------------------------------


@pytest.fixture
def forwarder(books: Books) -> Iterator[Forwarder]:
    with Forwarder(*books.address) as forwarder:
        yield forwarder


@pytest.fixture
def far(books: Books, forwarder: Forwarder) -> Iterator[HotConnection]:
    """A connection through the forwarder."""
    with hot_connection(books.postgres("inventory_rw", port=forwarder.port), application="far-test") as connection:
        yield connection


def test_server_that_refuses_connections_is_busy_within_a_few_seconds(far: HotConnection, forwarder: Forwarder) -> None:
    assert rerun(Attempts(), far) == 1
    forwarder.cut()
    started = time.monotonic()
    with pytest.raises(Busy):
        rerun(Attempts(), far)
    assert time.monotonic() - started < 5
    assert not far.answers()
    forwarder.heal()
    assert far.answers()
    assert rerun(Attempts(), far) == 1


def test_server_that_takes_connections_and_says_nothing_is_busy_within_the_budget(
    far: HotConnection, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BUDGET_SECONDS", 1.0)
    assert rerun(Attempts(), far) == 1
    forwarder.hold()
    started = time.monotonic()
    with pytest.raises(Busy):
        rerun(Attempts(), far)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("pipelined", [False, True], ids=["statement", "pipeline"])
def test_server_that_freezes_does_not_hold_the_worker_for_ever(
    far: HotConnection, forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch, *, pipelined: bool
) -> None:
    """The peer's kernel goes on acknowledging, so neither TCP nor the server's own time-outs end the wait."""
    monkeypatch.setattr(BoundedConnection, "answer_seconds", 0.5)
    monkeypatch.setattr(retry, "BUDGET_SECONDS", 0.0)
    ended: list[BaseException] = []

    def ask(session: psycopg.Connection) -> None:
        with session.pipeline() if pipelined else nullcontext():
            session.execute("SELECT 1").fetchall()

    def work() -> None:
        try:
            rerun(ask, far)
        except BaseException as error:  # noqa: BLE001 - whatever it is: it ended
            ended.append(error)

    far.get()
    forwarder.freeze()
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    wait_for(lambda: bool(ended), seconds=20, what="the end of the wait")
    forwarder.heal()
    worker.join(10)
    assert [type(error) for error in ended] == [Busy]
    assert rerun(Attempts(), far) == 1


def test_session_options_hold_on_every_new_connection(books: Books, connection: HotConnection) -> None:
    asked = ("enable_seqscan", "statement_timeout", "lock_timeout", "transaction_timeout", "application_name")
    expected = ["off", "5s", "2s", "10s", "retry-test"]
    for _ in range(2):
        session = connection.get()
        assert [session.execute(f"SHOW {name}".encode()).fetchone()[0] for name in asked] == expected  # type: ignore[index]
        assert session.info.parameter_status("default_transaction_read_only") == "off"
        books.terminate(session.info.backend_pid)
        assert rerun(Attempts(), connection) == 2
