"""What a handler does to the connection that it is lent stays with the handler."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from onceloop import InputRecord, OutputRecord
from tests.once import World, running, world_of
from tests.stack import Stack


@pytest.fixture
def world(servers: Stack) -> Iterator[World]:
    with world_of(servers) as made:
        yield made


def test_rows_and_cursors_that_the_handler_chose_are_not_those_of_the_library(world: World) -> None:
    """Red before: the library's next query took the rows' column names for their values."""
    app = world.app()
    found: list[object] = []

    @app.each(key=lambda record: record.key)
    def book(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
        found.append((db.row_factory, db.cursor_factory))
        db.row_factory = dict_row  # type: ignore[assignment]
        db.cursor_factory = psycopg.ClientCursor
        assert db.execute("SELECT %s AS key", ["a"]).fetchone() == {"key": "a"}  # type: ignore[comparison-overlap]
        return [OutputRecord(app.outputs[0], record.key, b"")]

    world.prepared(app)
    world.write(("a", "1"))
    with running(app) as life:
        life.wait_for(lambda: len(world.published()) == 1)
        world.write(("a", "2"), ("b", "1"))
        life.wait_for(lambda: len(world.published()) == 2)
    assert len(found) == 2
    assert found[0] == found[1]


def test_warning_of_a_handler_s_statement_is_none_of_the_commit(world: World) -> None:
    """Red before: the commit was taken for one that the standby has not got, and the connection opened again."""
    app = world.app()
    backends: list[int] = []

    @app.each(key=lambda record: record.key)
    def book(record: InputRecord, db: psycopg.Connection) -> list[OutputRecord]:
        backends.append(db.info.backend_pid)
        db.execute("DO $$ BEGIN RAISE WARNING 'careful'; END $$")
        return [OutputRecord(app.outputs[0], record.key, b"")]

    world.prepared(app)
    with running(app) as life:
        for count, key in enumerate("abc", 1):
            world.write((key, "1"))
            life.wait_for(lambda: len(world.published()) == count)  # noqa: B023 - awaited here
    assert len(set(backends)) == 1
