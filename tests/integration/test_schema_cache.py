"""Starting while the registry is away: on what it confirmed before, not on more, and not for ever."""

import json
import secrets
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from common.config import KafkaSettings
from common.events.orders import OrderCreated
from common.events.schema_versions import newest, versions
from common.kafka import schema_registry
from common.kafka.schema_registry import open_codec
from common.topics import NOTIFICATION_SENT, ORDERS_CREATED
from deploy.schemas import subjects
from onceloop.errors import Busy, FatalError
from tests.factories import make_order
from tests.forwarder import Forwarder, forward
from tests.stack import Stack


@pytest.fixture
def registry(servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forwarder]:
    monkeypatch.setattr(schema_registry, "CONFIRM_SECONDS", 0.05)
    with forward(servers.settings.registry_url) as forwarder:
        yield forwarder
        forwarder.heal()
        for watch in watches():
            watch.join(10)
            assert not watch.is_alive(), "the thread that waits for the registry finds it, and is done"


def watches() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "schemas"]


@pytest.fixture
def settings(servers: Stack, registry: Forwarder, tmp_path: Path) -> KafkaSettings:
    """The way to the registry through the forwarder, with a cache that is empty."""
    path = urlsplit(servers.settings.registry_url).path
    url = f"http://127.0.0.1:{registry.port}{path}"
    return servers.settings.model_copy(update={"registry_url": url, "schema_cache_dir": tmp_path / "cache"})


def entries(settings: KafkaSettings) -> dict[Path, dict[str, object]]:
    assert settings.schema_cache_dir is not None
    return {file: json.loads(file.read_text()) for file in settings.schema_cache_dir.iterdir()}


def doctor(settings: KafkaSettings, **changes: object) -> None:
    """Rewrite what the cache says."""
    for file, entry in entries(settings).items():
        file.write_text(json.dumps({**entry, **changes}))


def assert_waits(settings: KafkaSettings) -> None:
    with pytest.raises(FatalError, match="registry does not answer"):
        open_codec(settings, [ORDERS_CREATED])


def test_process_starts_on_confirmed_schemas_while_the_registry_is_away(
    settings: KafkaSettings, registry: Forwarder
) -> None:
    order = make_order()
    value = open_codec(settings, [ORDERS_CREATED]).encode(order)
    registry.cut()
    recalled = open_codec(settings, [ORDERS_CREATED])
    assert recalled.encode(order) == value
    assert recalled.decode(OrderCreated, value) == order


def test_process_waits_if_one_of_its_schemas_was_never_confirmed(settings: KafkaSettings, registry: Forwarder) -> None:
    open_codec(settings, [NOTIFICATION_SENT])
    registry.cut()
    assert_waits(settings)


def test_without_a_folder_nothing_is_kept(settings: KafkaSettings, registry: Forwarder) -> None:
    plain = settings.model_copy(update={"schema_cache_dir": None})
    open_codec(plain, [ORDERS_CREATED])
    registry.cut()
    assert_waits(plain)


def test_what_was_confirmed_too_long_ago_is_not_believed(settings: KafkaSettings, registry: Forwarder) -> None:
    open_codec(settings, [ORDERS_CREATED])
    doctor(settings, confirmed_at=0)
    registry.cut()
    assert_waits(settings)


def test_what_another_registry_confirmed_is_not_believed(settings: KafkaSettings, registry: Forwarder) -> None:
    open_codec(settings, [ORDERS_CREATED])
    registry.cut()
    assert_waits(settings.model_copy(update={"registry_url": f"{settings.registry_url}/"}))


def test_file_that_cannot_be_read_is_passed_over(settings: KafkaSettings, registry: Forwarder) -> None:
    open_codec(settings, [ORDERS_CREATED])
    for file in entries(settings):
        file.write_text("{")
    registry.cut()
    assert_waits(settings)


def test_folder_that_cannot_be_written_harms_nothing(settings: KafkaSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    order, blocked = make_order(), settings.model_copy(update={"schema_cache_dir": tmp_path / "file" / "cache"})
    codec = open_codec(blocked, [ORDERS_CREATED])
    assert codec.decode(OrderCreated, codec.encode(order)) == order


def test_old_versions_of_our_own_are_known_from_the_start(
    settings: KafkaSettings, registry: Forwarder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree with two versions, of which the topic still holds the first."""
    folder = tmp_path / "schemas" / "OrderCreated"
    folder.mkdir(parents=True)
    older = newest("OrderCreated").text
    newer = json.loads(older)
    newer["fields"].append({"name": "met", "type": "string", "default": ""})
    (folder / "v1.avsc").write_text(older)
    (folder / "v2.avsc").write_text(json.dumps(newer))
    monkeypatch.setattr(schema_registry, "versions", lambda event: versions(event, tmp_path / "schemas"))
    topic = replace(ORDERS_CREATED, name=f"test-{secrets.token_hex(5)}")
    with SchemaRegistryClient({"url": settings.registry_url}) as client:
        ids = [subjects.register(client, topic.subject, text) for text in (older, json.dumps(newer))]
    codec = open_codec(settings, [topic])
    registry.cut()
    order = make_order()
    written = codec.encode(order)
    assert int.from_bytes(written[1:5], "big") == ids[1]
    assert codec.decode(OrderCreated, b"\0" + ids[0].to_bytes(4, "big") + written[5:]) == order


def test_schema_of_another_release_is_remembered_once_it_was_met(
    servers: Stack, settings: KafkaSettings, registry: Forwarder
) -> None:
    newer = json.loads(newest("OrderCreated").text)
    newer["fields"].append({"name": "met", "type": "string", "default": ""})
    subject = f"test-{secrets.token_hex(5)}-value"
    with SchemaRegistryClient({"url": servers.settings.registry_url}) as client:
        schema_id = subjects.register(client, subject, json.dumps(newer))
    order = make_order()
    before = open_codec(settings, [ORDERS_CREATED])
    value = b"\0" + schema_id.to_bytes(4, "big") + before.encode(order)[5:] + b"\x02x"
    registry.cut()
    with pytest.raises(Busy):
        before.decode(OrderCreated, value)
    registry.heal()
    assert before.decode(OrderCreated, value) == order
    registry.cut()
    assert open_codec(settings, [ORDERS_CREATED]).decode(OrderCreated, value) == order


@pytest.mark.parametrize("changed", [False, True], ids=["same data", "data gone"])
def test_registry_that_comes_back_with_other_ids_ends_the_process_in_order(
    settings: KafkaSettings, registry: Forwarder, *, changed: bool
) -> None:
    """The cache names an id that the registry, once back, does not give to this schema: as if it had been emptied."""
    open_codec(settings, [ORDERS_CREATED])
    if changed:
        doctor(settings, id=2_000_000_002)
    registry.cut()
    asked_to_stop = threading.Event()

    def take(_signal: int, _frame: FrameType | None) -> None:
        asked_to_stop.set()

    before = signal.signal(signal.SIGTERM, take)
    try:
        open_codec(settings, [ORDERS_CREATED])
        (watch,) = watches()
        assert not asked_to_stop.is_set()
        registry.heal()
        watch.join(10)
        assert not watch.is_alive()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked_to_stop.is_set() == changed
