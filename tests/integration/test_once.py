"""An app of `onceloop` on a real broker and database: what records lead to, whatever the handler does."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from onceloop import InputRecord, Once, OutputRecord, Refused, failpoints
from onceloop.errors import ConfigError, ContractError, ReportedError
from tests.once import Life, World, running, world_of
from tests.stack import Stack


@pytest.fixture
def world(servers: Stack) -> Iterator[World]:
    with world_of(servers) as made:
        yield made


def enter(record: InputRecord, db: psycopg.Connection) -> None:
    db.execute("INSERT INTO ledger (key) VALUES (%s)", [(record.key or b"").decode()])


def booking(world: World, before: Callable[[InputRecord, Any], object] = lambda _record, _db: None) -> Once:
    """Return an app whose handler does `before`, enters the key, and publishes random bytes under it."""
    app = world.app()

    @app.each(key=lambda record: record.key)
    def book(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
        enter(record, db)
        before(record, db)
        return [OutputRecord(app.outputs[0], record.key, os.urandom(8))]

    return world.prepared(app)


def test_key_that_comes_twice_is_decided_once(world: World) -> None:
    app = booking(world)
    world.write(("a", "1"), ("b", "1"), ("a", "2"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 2)
    world.write(("b", "2"), ("c", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 3)
    assert world.ledger() == ["a", "b", "c"]
    owners = world.execute('SELECT key, "offset" FROM app.decided ORDER BY "offset"')
    assert owners == [(b"a", 0), (b"b", 1), (b"c", 4)]


def test_stored_bytes_are_published_though_the_handler_would_return_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aim: a decision is made once. Fault: the process ends between the database's commit and Kafka's."""
    app = booking(world)
    world.write(("a", "1"), ("b", "1"))

    def end(name: str) -> None:
        if name.endswith(":db.committed"):
            raise ReportedError("a crash of this test's")

    with monkeypatch.context() as armed:
        armed.setattr(failpoints, "point", end)
        assert "a crash" in str(Life(app).ended())
    assert world.published() == []
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 2)
    assert world.ledger() == ["a", "b"]
    stored = b"".join(records for (records,) in world.execute("SELECT records FROM app.decided"))
    assert all(value and value in stored for _, value in world.published())


def test_dead_letter_is_published_after_a_crash_though_its_key_was_accepted_since(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aim: the outcome of each record. Fault: the process ends between the database's commit and Kafka's.

    Red before: the accepted row took the place of the refusal, whose dead letter was then never published.
    """

    def refuse(record: InputRecord, _db: object) -> None:
        if record.value == b"bad":
            raise Refused("bad")

    app = booking(world, refuse)
    world.write(("a", "bad"), ("a", "good"), ("a", "bad"))

    def end(name: str) -> None:
        if name.endswith(":db.committed"):
            raise ReportedError("a crash of this test's")

    with monkeypatch.context() as armed:
        armed.setattr(failpoints, "point", end)
        assert "a crash" in str(Life(app).ended())
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    assert world.refused() == [(b"a", "refused")]
    rows = world.execute('SELECT "offset", refused FROM app.decided ORDER BY "offset"')
    assert rows == [(0, True), (1, False)], "the third is one more record of a key that is decided"


def test_table_of_an_older_release_is_refused_until_init_has_renewed_it(world: World) -> None:
    """Act: an operator upgrades the library. Rows of the older release are kept, and count."""
    app = booking(world)
    world.write(("a", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    world.execute("DROP INDEX app.decided_key")
    world.execute(
        "ALTER TABLE app.decided DROP CONSTRAINT decided_owner, ADD CONSTRAINT decided_pkey PRIMARY KEY (key)"
    )
    refused = Life(app).ended()
    assert isinstance(refused, ReportedError)
    assert "older release" in refused.message
    app.init()
    world.write(("a", "2"), ("b", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 2)
    assert world.ledger() == ["a", "b"]


def test_deferred_constraint_is_the_record_s_doing(world: World) -> None:
    """Red before: it failed at COMMIT, outside the handler, and ended the process at each start."""

    def enter_again(record: InputRecord, db: psycopg.Connection) -> None:
        if record.value == b"twice":
            enter(record, db)

    app = booking(world, enter_again)
    world.execute("ALTER TABLE app.ledger ADD CONSTRAINT ledger_once UNIQUE (key) DEFERRABLE INITIALLY DEFERRED")
    world.write(("a", "1"), ("b", "twice"), ("c", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 2 and len(world.refused()) == 1)
    assert world.ledger() == ["a", "c"]
    assert world.refused() == [(b"b", "crash")]


def test_refused_record_keeps_nothing_and_its_neighbours_everything(world: World) -> None:
    def refuse(record: InputRecord, _db: object) -> None:
        if record.value == b"bad":
            raise Refused("bad")

    app = booking(world, refuse)
    world.write(("a", "1"), ("b", "bad"), ("c", "1"), ("b", "good"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 3)
    assert world.ledger() == ["a", "c", "b"]
    assert world.refused() == [(b"b", "refused")]


def test_batch_that_holds_a_bad_record_is_halved_until_it_stands_alone(world: World) -> None:
    app = world.app()

    @app.batch(key=lambda record: record.key)
    def book(records: Sequence[InputRecord], db: psycopg.Connection) -> Iterator[list[OutputRecord]]:
        for record in records:
            enter(record, db)
            if record.value == b"bad":
                raise Refused("bad")
            yield [OutputRecord(app.outputs[0], record.key, b"")]

    world.prepared(app)
    world.write(*[(f"k{number}", "bad" if number == 6 else "good") for number in range(14)])
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 13)
    assert world.ledger() == [f"k{number}" for number in range(14) if number != 6]
    assert world.refused() == [(b"k6", "refused")]


def test_values_and_keys_that_cannot_be_are_dead_letters(world: World) -> None:
    def store_number(record: InputRecord, db: psycopg.Connection) -> None:
        db.execute("SELECT %s::int", [(record.value or b"").decode()])

    app = booking(world, store_number)
    world.write((None, "1"), ("huge", "99999999999"), ("k" * 2000, "1"), ("fine", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    assert sorted(kind for _, kind in world.refused()) == ["database", "key", "key"]
    assert world.ledger() == ["fine"]


def test_record_that_alone_raises_becomes_a_dead_letter_once_another_goes_through(world: World) -> None:
    """Aim: evidence before a dead letter. Alone, the record ends the process, which is no crash that counts."""

    def stumble(record: InputRecord, _db: object) -> None:
        if record.value == b"bad":
            raise KeyError("amount")

    app = booking(world, stumble)
    world.write(("a", "bad"))
    ended = Life(app).ended()
    assert "raised KeyError 3 times" in str(ended)
    assert isinstance(ended, ReportedError)
    world.write(("b", "1"), ("c", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 2)
    assert world.refused() == [(b"a", "crash")]
    assert world.ledger() == ["b", "c"]
    assert world.execute("SELECT max(starts) FROM app.start") == [(1,)]


def test_records_of_a_partition_wait_for_one_that_raises_at_first(world: World) -> None:
    tries: list[bytes] = []

    def stumble(record: InputRecord, _db: object) -> None:
        if record.key == b"b":
            tries.append(b"b")
            if len(tries) < 3:  # together with others, alone, then well
                raise KeyError("not yet")

    app = booking(world, stumble)
    world.write(("a", "1"), ("b", "1"), ("c", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 3)
    assert world.ledger() == ["a", "b", "c"]
    assert world.refused() == []


def test_outage_of_what_the_handler_needs_is_waited_out(world: World) -> None:
    tries: list[float] = []

    def ask(_record: InputRecord, _db: object) -> None:
        tries.append(time.monotonic())
        if len(tries) < 5:
            raise ConnectionError("503")

    app = booking(world, ask)
    world.write(("a", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    assert world.refused() == []
    assert tries[-1] - tries[0] > 1.0


def test_another_worker_that_was_faster_is_believed(world: World) -> None:
    """Aim: the primary key decides. Fault: a second process decides the key while the handler works on it."""

    def overtaken(record: InputRecord, _db: object) -> None:
        if record.key == b"a":
            world.execute(
                """INSERT INTO app.decided (key, topic, partition, "offset", records)
                VALUES ('a', 'other', 0, 0, '\x01')
                ON CONFLICT DO NOTHING"""
            )

    app = booking(world, overtaken)
    world.write(("a", "1"), ("b", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    assert world.ledger() == ["b"]
    assert [key for key, _ in world.published()] == [b"b"]


def swallow(db: psycopg.Connection) -> None:
    try:
        db.execute("SELECT 1 / 0")
    except psycopg.Error:
        return


@pytest.mark.parametrize(
    ("deed", "text"),
    [
        (lambda db: db.commit(), r"called commit\(\)"),
        (lambda db: db.rollback(), r"called rollback\(\)"),
        (lambda db: db.close(), r"called close\(\)"),
        (lambda db: db.execute("COMMIT"), "ended the transaction"),
        (lambda db: (db.execute("COMMIT"), db.execute("BEGIN")), "began another one"),
        (lambda db: db.execute("SELECT * FROM nowhere"), 'relation "nowhere" does not exist'),
        (swallow, "went on after a database error"),
    ],
)
def test_handler_that_breaks_the_transaction_ends_the_process(
    world: World, deed: Callable[[Any], object], text: str
) -> None:
    app = booking(world, lambda _record, db: deed(db))
    world.write(("a", "1"))
    ended = Life(app).ended()
    assert isinstance(ended, ContractError)
    assert ended.cure
    with pytest.raises(ContractError, match=text):
        raise ended
    assert world.published() == []
    assert world.execute("SELECT * FROM app.decided") == []


def test_part_of_the_handler_s_work_can_be_undone_in_a_savepoint(world: World) -> None:
    def try_out(_record: InputRecord, db: psycopg.Connection) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero), db.transaction():
            db.execute("INSERT INTO ledger (key) SELECT 'undone' WHERE 1 / 0 = 1")

    app = booking(world, try_out)
    world.write(("a", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    assert world.ledger() == ["a"]


def test_slow_handler_gets_fewer_records_and_loses_none(world: World) -> None:
    app = booking(world, lambda _record, _db: time.sleep(0.4))
    world.write(*[(f"k{number}", "1") for number in range(30)])
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 30)
    assert len(world.ledger()) == 30
    assert world.execute("SELECT count(DISTINCT decided_at) >= 4 FROM app.decided") == [(True,)]


def test_record_that_alone_takes_too_long_says_so(world: World) -> None:
    app = booking(world, lambda _record, db: db.execute("SELECT pg_sleep(8)"))
    world.write(("a", "1"))
    ended = Life(app).ended()
    assert isinstance(ended, ContractError)
    assert f"the handler needs too long for one record, in-{world.token}[0] at 0" in str(ended)


def test_init_may_be_repeated_and_says_what_it_made(world: World) -> None:
    app = booking(world)
    assert app.init() == []
    assert booking(world).init(partitions=3) == []


def test_init_wants_the_topics_unless_it_may_create_them(world: World) -> None:
    app = world.app()
    app.each(key=lambda record: record.key)(lambda _record, _db: None)
    with pytest.raises(ReportedError, match="there is no topic in-") as refused:
        app.init()
    assert "--topics" in refused.value.cure


def test_schema_of_another_group_is_refused(world: World) -> None:
    booking(world)
    other = world.app(group=f"other-{world.token}")
    other.each(key=lambda record: record.key)(lambda _record, _db: None)
    with pytest.raises(ConfigError, match="holds the decisions of the group group-"):
        other.init(partitions=1)
    with pytest.raises(ConfigError, match="holds the decisions of the group group-"):
        other.run()


def test_run_before_init_says_what_to_do(world: World) -> None:
    app = booking(world)
    world.execute("DROP SCHEMA app CASCADE")
    with pytest.raises(ReportedError, match=r"no table app\.decided") as refused:
        app.run()
    assert "init" in refused.value.cure


def test_group_whose_offsets_are_gone_does_not_begin_again(world: World) -> None:
    """Aim: no record is worked on twice. Fault: the broker has forgotten a group that has decided records."""
    app = booking(world)
    world.write(("a", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
    world.forget(app.group)
    with pytest.raises(ReportedError, match="but work was done there"):
        app.init()


def test_prefix_is_on_the_cluster_and_not_in_the_handler(world: World) -> None:
    seen: list[str] = []
    app = world.app(inputs=["in"], outputs=["out"], topic_prefix=f"{world.token}.")

    @app.each(key=lambda record: record.key)
    def book(record: InputRecord, _db: object) -> list[OutputRecord]:
        seen.append(record.partition.topic)
        return [OutputRecord("out", record.key, b"")]

    world.prepared(app)
    world.write(("a", "1"), topic=f"{world.token}.in")
    with running(app) as life:
        life.wait_for(lambda: len(world.read(f"{world.token}.out")) == 1)
    assert seen == ["in"]
