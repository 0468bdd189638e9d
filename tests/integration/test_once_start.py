"""What is missing or wrong around an app is found at its start, before anything is decided."""

from collections.abc import Iterator

import pytest

from onceloop import Once, OutputRecord, ReportedError
from tests.once import Life, World, world_of
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
