"""The two trips to PostgreSQL: what is recorded, what guards it, and what a lost connection leaves behind."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import uuid_utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import failpoints
from common.events.orders import SKU_LENGTH_MAX, OrderLine
from common.kafka.records import Partition
from common.postgres import retry
from common.postgres.connection import HotConnection, hot_connection
from common.postgres.retry import rerun
from inventory_service.core.replay import Coordinate, Decision
from inventory_service.io import decision_store
from inventory_service.io.decision_store import NewDecision, Snapshot
from tests.books import Books, open_books
from tests.records import wait_for
from tests.stack import Stack

NOW_MS = 1_800_000_000_123


@pytest.fixture(scope="module")
def books(servers: Stack) -> Iterator[Books]:
    """One database for this module: its tests name orders and SKUs of their own."""
    with open_books(servers) as books:
        yield books


@pytest.fixture
def connection(books: Books) -> Iterator[HotConnection]:
    with hot_connection(books.postgres("inventory_rw"), application="inventory-test") as connection:
        yield connection


def some_id() -> str:
    return str(uuid_utils.uuid7())


def some_sku() -> str:
    return f"sku-{some_id()}"


def decision(
    *, order_id: str | None = None, lines: Mapping[str, int] | None = None, reason: str | None = None, **changes: Any
) -> NewDecision:
    made = Decision(
        order_id=order_id or some_id(),
        reserved=reason is None,
        event_id=some_id(),
        event=b"\x00\x00\x00\x00\x02 stored bytes",
        owner=Coordinate(Partition("orders.created", 3), 41),
        decided_at_ms=NOW_MS,
    )
    return NewDecision(
        decision=replace(made, **changes),
        reason=reason,
        lines=tuple(OrderLine(sku, quantity) for sku, quantity in (lines or {"tea": 1}).items()),
    )


def record(
    connection: psycopg.Connection,
    new: Sequence[NewDecision] = (),
    *,
    replayed: Sequence[str] = (),
    taken: Mapping[str, int] | None = None,
) -> None:
    decision_store.record(connection, new=new, replayed=replayed, taken=taken or {})


def known(connection: HotConnection, *order_ids: str) -> Mapping[str, Decision]:
    return decision_store.read(connection.get(), skus=(), order_ids=order_ids).known


# --- what is written is read ------------------------------------------------------------------------------------------


def test_decision_is_read_back_as_it_was_recorded(connection: HotConnection) -> None:
    new = [decision(), decision(reason="unknown_sku"), decision(reason="insufficient_stock")]
    record(connection.get(), new)
    assert known(connection, *(each.decision.order_id for each in new)) == {
        each.decision.order_id: each.decision for each in new
    }


def test_stock_of_the_skus_asked_for_is_read__unknown_ones_are_left_out(
    books: Books, connection: HotConnection
) -> None:
    full, empty, unknown = some_sku(), some_sku(), some_sku()
    books.set_stock({full: 7, empty: 0})
    found = decision_store.read(connection.get(), skus={full, empty, unknown}, order_ids=())
    assert found == Snapshot(available={full: 7, empty: 0}, known={})


def test_nothing_asked_for_is_nothing_read(connection: HotConnection) -> None:
    assert decision_store.read(connection.get(), skus=(), order_ids=()) == Snapshot(available={}, known={})


def test_stock_is_taken_with_the_decisions_that_take_it(books: Books, connection: HotConnection) -> None:
    tea, mug = some_sku(), some_sku()
    books.set_stock({tea: 10, mug: 3})
    record(connection.get(), [decision(lines={tea: 4, mug: 3})], taken={tea: 4, mug: 3})
    assert books.available(tea, mug) == {tea: 6, mug: 0}


def test_row_tells_verdict_reason_lines_and_owner(books: Books, connection: HotConnection) -> None:
    tea, mug = some_sku(), some_sku()
    kept, failed = decision(lines={tea: 4, mug: 1}), decision(lines={mug: 9}, reason="insufficient_stock")
    record(connection.get(), [failed, kept])
    found = books.decision(kept.decision.order_id)
    assert (found.verdict, found.reason, found.skus, found.qtys) == (1, None, [tea, mug], [4, 1])
    assert (found.topic, found.partition, found.offset, found.replays) == ("orders.created", 3, 41, 0)
    found = books.decision(failed.decision.order_id)
    assert (found.verdict, found.reason, found.skus, found.qtys) == (0, "insufficient_stock", [mug], [9])


def test_each_row_of_a_large_batch_keeps_its_own_values(connection: HotConnection) -> None:
    new = [
        decision(
            lines={f"sku-{number}-{line}": line + 1 for line in range(number % 7 + 1)},
            reason=[None, "unknown_sku", "insufficient_stock"][number % 3],
            event=bytes([number % 256]) * (number % 50),
            owner=Coordinate(Partition("blue.orders.created", number % 8), number * 10**9),
            decided_at_ms=NOW_MS + number,
        )
        for number in range(1000)
    ]
    record(connection.get(), new)
    assert known(connection, *(each.decision.order_id for each in new)) == {
        each.decision.order_id: each.decision for each in new
    }


TRICKY_SKUS = [
    'quote"d',
    "apo'strophe",
    "back\\slash",
    "\\",
    '\\"',
    "com,ma",
    "{braces}",
    "{",
    "}",
    '"',
    ",",
    " ",
    " padded ",
    "NULL",
    "null",
    "%b",
    "%s%%",
    "$1",
    ";--",
    "E'\\x1f'",
    "ünïcödé",
    "壺",
    "🫖",
    "e\u0301",
    "s" * SKU_LENGTH_MAX,
    "壺" * SKU_LENGTH_MAX,
]


@pytest.mark.parametrize("sku", TRICKY_SKUS, ids=lambda sku: ascii(sku[:12]))
def test_sku_of_any_spelling_is_read_recorded_and_taken(books: Books, connection: HotConnection, sku: str) -> None:
    beside = some_sku()
    books.set_stock({sku: 10, beside: 10})
    assert decision_store.read(connection.get(), skus={sku, beside}, order_ids=()).available == {sku: 10, beside: 10}
    new = decision(lines={sku: 4, beside: 1})
    record(connection.get(), [new], taken={sku: 4, beside: 1})
    assert books.decision(new.decision.order_id).skus == [sku, beside]
    assert books.available(sku) == {sku: 6}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=SKU_LENGTH_MAX),
        st.integers(1, 10_000),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 253_402_300_799_999),
)
def test_whatever_passes_validation_can_be_recorded_and_comes_back_equal(
    books: Books, connection: HotConnection, lines: dict[str, int], decided_at_ms: int
) -> None:
    books.set_stock(dict.fromkeys(lines, 10_000))
    new = decision(lines=lines, decided_at_ms=decided_at_ms)
    record(connection.get(), [new], taken=lines)
    found = books.decision(new.decision.order_id)
    assert dict(zip(found.skus, found.qtys, strict=True)) == lines
    assert known(connection, new.decision.order_id) == {new.decision.order_id: new.decision}
    left = decision_store.read(connection.get(), skus=lines.keys(), order_ids=()).available
    assert left == {sku: 10_000 - quantity for sku, quantity in lines.items()}


# --- replays ----------------------------------------------------------------------------------------------------------


def test_replays_are_counted_once_per_batch__also_when_nothing_is_new(books: Books, connection: HotConnection) -> None:
    old, other = decision(), decision()
    record(connection.get(), [old, other])
    record(connection.get(), replayed=[old.decision.order_id])
    record(connection.get(), [decision()], replayed=[old.decision.order_id])
    assert books.decision(old.decision.order_id).replays == 2
    assert books.decision(other.decision.order_id).replays == 0


def test_batch_of_replays_alone_writes__so_that_its_commit_waits_for_the_standby(
    books: Books, connection: HotConnection
) -> None:
    old = decision()
    record(connection.get(), [old])
    version = "SELECT xmin::text FROM inventory.decision WHERE order_id = :id"
    before = books.execute(version, id=old.decision.order_id).scalar_one()
    record(connection.get(), replayed=[old.decision.order_id])
    assert books.execute(version, id=old.decision.order_id).scalar_one() != before


# --- guards -----------------------------------------------------------------------------------------------------------


def test_order_that_was_decided_meanwhile_undoes_the_whole_batch__stock_included(
    books: Books, connection: HotConnection
) -> None:
    tea = some_sku()
    books.set_stock({tea: 10})
    first, fresh = decision(), decision()
    record(connection.get(), [first])
    again = decision(order_id=first.decision.order_id, lines={tea: 2})
    with pytest.raises(psycopg.errors.UniqueViolation) as violated:
        record(connection.get(), [fresh, again], taken={tea: 3})
    connection.recover()
    assert retry.classify(violated.value) is retry.Failure.GUARD
    assert books.available(tea) == {tea: 10}
    assert books.decision(fresh.decision.order_id) is None
    assert known(connection, first.decision.order_id)[first.decision.order_id].event_id == first.decision.event_id


def test_stock_that_was_taken_meanwhile_undoes_the_whole_batch__decisions_included(
    books: Books, connection: HotConnection
) -> None:
    tea, mug = some_sku(), some_sku()
    books.set_stock({tea: 1, mug: 5})
    new, old = decision(), decision()
    record(connection.get(), [old])
    with pytest.raises(psycopg.errors.CheckViolation) as violated:
        record(connection.get(), [new], replayed=[old.decision.order_id], taken={mug: 1, tea: 2})
    connection.recover()
    assert retry.classify(violated.value) is retry.Failure.GUARD
    assert books.available(tea, mug) == {tea: 1, mug: 5}
    assert books.decision(new.decision.order_id) is None
    assert books.decision(old.decision.order_id).replays == 0


def test_stock_row_that_is_gone_undoes_the_whole_batch(books: Books, connection: HotConnection) -> None:
    tea, gone = some_sku(), some_sku()
    books.set_stock({tea: 10})
    new = decision()
    with pytest.raises(psycopg.errors.DivisionByZero) as violated:
        record(connection.get(), [new], taken={tea: 1, gone: 1})
    connection.recover()
    assert retry.classify(violated.value) is retry.Failure.GUARD
    assert books.available(tea) == {tea: 10}
    assert books.decision(new.decision.order_id) is None


def test_violation_on_a_connections_very_first_batch_is_survived_by_the_same_connection(
    books: Books, connection: HotConnection
) -> None:
    """Aim: statements whose preparation was queued behind the error and skipped are prepared again."""
    tea = some_sku()
    books.set_stock({tea: 10})
    first = decision()
    with hot_connection(books.postgres("inventory_rw"), application="other") as other:
        record(other.get(), [first])
    attempts = []

    def work(session: psycopg.Connection) -> None:
        attempts.append(session)
        rows = [decision(lines={tea: 1})] if len(attempts) > 1 else [decision(order_id=first.decision.order_id)]
        record(session, rows, replayed=[first.decision.order_id], taken={tea: 1})

    rerun(work, connection)
    assert len(attempts) == 2
    assert attempts[0] is attempts[1]
    assert books.available(tea) == {tea: 9}


def test_database_refuses_what_the_worker_must_never_write(connection: HotConnection) -> None:
    new = decision()
    record(connection.get(), [new])
    for statement in (
        "UPDATE inventory.decision SET verdict = 0",
        "UPDATE inventory.decision SET event = ''",
        "DELETE FROM inventory.decision",
        "UPDATE inventory.stock SET on_hand = 1",
        "DELETE FROM inventory.stock",
        "INSERT INTO inventory.stock VALUES ('x', 1, 1)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.get().execute(statement)


# --- lock order -------------------------------------------------------------------------------------------------------


def test_workers_with_crossed_orders_never_deadlock(books: Books) -> None:
    """Aim: one lock order on every path. Two sessions write the same orders and SKUs, named in opposite order."""
    skus = [some_sku() for _ in range(6)]
    books.set_stock(dict.fromkeys(skus, 1_000_000))
    rounds, failures = 200, list[Exception]()
    batches = [[some_id() for _ in range(4)] for _ in range(rounds)]
    replayed = [decision() for _ in range(6)]
    together = threading.Barrier(2)

    def work(*, backwards: bool) -> None:
        step = -1 if backwards else 1
        with hot_connection(books.postgres("inventory_rw"), application="crossed") as own:
            for ids in batches:
                together.wait(20)
                try:
                    record(
                        own.get(),
                        [decision(order_id=order_id) for order_id in ids[::step]],
                        replayed=[each.decision.order_id for each in replayed][::step],
                        taken=dict.fromkeys(skus[::step], 1),
                    )
                except psycopg.errors.UniqueViolation:
                    own.recover()
                except (psycopg.Error, threading.BrokenBarrierError) as error:
                    failures.append(error)
                    own.recover()

    with hot_connection(books.postgres("inventory_rw"), application="crossed") as own:
        record(own.get(), replayed)
    threads = [threading.Thread(target=work, kwargs={"backwards": backwards}) for backwards in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert set(books.available(*skus).values()) == {1_000_000 - rounds}  # one of the two wins each round


# --- lost connections -------------------------------------------------------------------------------------------------


def reserve(order_id: str, sku: str, units: int) -> Callable[[psycopg.Connection], str]:
    """Return the work of a batch with one order, as the step does it: read, decide what is not known, record."""

    def work(session: psycopg.Connection) -> str:
        snapshot = decision_store.read(session, skus={sku}, order_ids={order_id})
        found = snapshot.known.get(order_id)
        if found is not None:
            record(session, replayed=[order_id])
            return found.event_id
        new = decision(order_id=order_id, lines={sku: units})
        failpoints.point("test:decided")
        record(session, [new], taken={sku: units})
        return new.decision.event_id

    return work


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
    event_id = rerun(reserve(order_id, tea, 4), connection)
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
    worker = threading.Thread(target=lambda: done.append(rerun(reserve(order_id, tea, 4), connection)))
    with hot_connection(books.postgres("inventory_rw"), application="holder") as holder, holder.get().transaction():
        holder.get().execute("SELECT 1 FROM inventory.stock WHERE sku = %s FOR UPDATE", [tea])
        worker.start()
        wait_for(lambda: books.waits_for_lock(pid), what="a session that waits for a lock")
        books.terminate(pid)
    worker.join(20)
    assert len(done) == 1
    assert books.available(tea) == {tea: 6}


def test_commit_that_warns_is_a_lost_connection__the_answer_is_read_anew(
    books: Books, connection: HotConnection
) -> None:
    """The server warns when the wait for a synchronous standby was cancelled: the row may be gone after a fail-over.

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
    event_id = rerun(reserve(order_id, tea, 4), connection)
    assert connection.get().info.backend_pid != before
    assert books.available(tea) == {tea: 6}
    assert (str(books.decision(order_id).event_id), books.decision(order_id).replays) == (event_id, 1)


# --- plans ------------------------------------------------------------------------------------------------------------


def test_rows_are_found_by_index_although_the_table_was_empty_when_the_plans_were_made(servers: Stack) -> None:
    """An empty table that was vacuumed makes a sequential scan look free, and a prepared plan keeps it."""
    with (
        open_books(servers) as empty,
        hot_connection(empty.postgres("inventory_rw"), application="plans") as connection,
    ):
        empty.set_stock({"tea": 1})
        empty.execute("VACUUM ANALYZE inventory.decision, inventory.stock")
        session = connection.get()
        decision_store.read(session, skus={"tea"}, order_ids={some_id()})
        record(session, [decision()], replayed=[some_id()], taken={"tea": 1})
        rows = session.execute("SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%inventory._%'")
        plans = {statement: explain(session, statement) for (statement,) in rows.fetchall() if "pg_" not in statement}
    assert len(plans) == 6
    for statement, plan in plans.items():
        assert "Seq Scan" not in plan, plan
        assert "Index" in plan or "INSERT" in statement, plan


def explain(session: psycopg.Connection, statement: str) -> str:
    """Return the plan that serves any parameters."""
    found = session.execute(f"EXPLAIN (GENERIC_PLAN) {statement}", prepare=False).fetchall()
    return "\n".join(line for (line,) in found)
