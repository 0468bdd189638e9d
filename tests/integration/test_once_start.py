"""What is missing or wrong around an app is found at its start; one that hangs is ended."""

import os
import time
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from onceloop import FatalError, InputRecord, Once, OutputRecord, ReportedError, health
from onceloop.errors import ExitCode
from tests.once import Life, World, running, world_of
from tests.stack import Stack


@pytest.fixture
def world(servers: Stack) -> Iterator[World]:
    with world_of(servers) as made:
        yield made


def echoing(world: World) -> Once:
    app = world.app()
    app.each(key=lambda record: record.key)(lambda record, _db: [OutputRecord(app.outputs[0], record.key, b"")])
    return world.prepared(app)


@pytest.mark.parametrize("missing", ["inputs", "outputs", "dead letters"])
def test_topic_that_is_missing_ends_the_process_before_anything_is_decided(
    world: World, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Red before, but for the input: decided records were published in vain, again and again."""
    app = echoing(world)
    world.write(("a", "1"))
    topic = f"nowhere-{world.token}"
    if missing == "dead letters":
        monkeypatch.setattr(app, "dead_letter_topic", lambda _input: topic)
    else:
        getattr(app, missing).append(topic)
        monkeypatch.setattr(app, "dead_letter_topic", lambda _input: world.dead_letters)
    ended = Life(app).ended()
    assert isinstance(ended, ReportedError)
    assert str(ended) == f"there is no topic {topic}"
    assert "init" in ended.cure
    assert world.execute("SELECT * FROM app.decided") == []


def test_database_that_does_not_let_the_app_in_says_why(world: World) -> None:
    """Red before: it was a database that "does not let the batch through", whatever the reason."""
    app = echoing(world)
    app.postgres = make_conninfo(world.dsn, dbname="nowhere")
    ended = Life(app).ended()
    assert isinstance(ended, FatalError)
    assert 'FATAL:  database "nowhere" does not exist' in str(ended)
    assert "password" not in str(ended)


def test_loop_that_hangs_is_ended_though_no_health_port_is_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red before: the watchdog was a part of the server of /livez, which by default is not there."""
    codes: list[int] = []
    app = world.app()

    @app.each(key=lambda record: record.key)
    def hang(_record: InputRecord, _db: object) -> None:
        monkeypatch.setattr(health, "STUCK_SECONDS", 0.5)
        monkeypatch.setattr(health, "AWAKE_SECONDS", 0.2)
        deadline = time.monotonic() + 5
        while not codes and time.monotonic() < deadline:
            time.sleep(0.05)
        monkeypatch.setattr(health, "STUCK_SECONDS", 75.0)

    world.prepared(app)
    monkeypatch.setattr(os, "_exit", codes.append)
    world.write(("a", "1"))
    with running(app) as life:
        life.wait_for(lambda: world.execute("SELECT * FROM app.decided") != [])
    assert codes[:1] == [ExitCode.UNAVAILABLE]
