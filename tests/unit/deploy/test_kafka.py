"""When the broker of a local stack may start, as its data show."""

from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.servers.kafka import Kafka
from deploy.local.servers.kafka_controller import KafkaController
from deploy.local.servers.kafka_node import SESSION_SECONDS
from deploy.local.servers.properties import escaped
from deploy.local.supervise.diagnosis import StartError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    return home


def broker(home: Home) -> Kafka:
    return Kafka(home, "", 9092, KafkaController(home, "", 9093))


def format_data(folder: Path, cluster_id: str) -> None:
    """Leave behind what Kafka's own tool does."""
    folder.mkdir()
    (folder / "meta.properties").write_text(f"#\nversion=1\ncluster.id={cluster_id}\nnode.id=1\n", encoding="utf-8")


def commands(kafka: Kafka) -> list[tuple[str, ...]]:
    return [launch.argv for launch in kafka.prepare()]


def test_new_broker_joins_its_controllers_cluster_at_once(home: Home) -> None:
    format_data(home.data("controller"), "ours")
    preparation = broker(home).prepare()
    assert next(preparation).argv[-2:] == ("--cluster-id", "ours")
    format_data(home.data("kafka"), "ours")
    assert list(preparation) == []


def test_broker_that_was_stopped_starts_at_once(home: Home) -> None:
    for name in ("controller", "kafka"):
        format_data(home.data(name), "ours")
    (home.data("kafka") / ".kafka_cleanshutdown").touch()
    assert commands(broker(home)) == []


def test_broker_that_was_killed_waits_until_its_former_self_is_declared_dead(home: Home) -> None:
    """Aim: no transaction hangs. Fault: it would end them while it counts as the former one."""
    for name in ("controller", "kafka"):
        format_data(home.data(name), "ours")
    assert commands(broker(home)) == [("sleep", str(SESSION_SECONDS))]


def test_data_of_another_cluster_are_refused_with_the_way_out(home: Home) -> None:
    """So are those of a checkout whose broker was its own controller: the new one would know none of the topics."""
    format_data(home.data("controller"), "ours")
    format_data(home.data("kafka"), "another")
    with pytest.raises(StartError, match="another cluster") as refused:
        commands(broker(home))
    assert "the checkout that wrote them" in refused.value.cure


@pytest.mark.parametrize("name", ["stäck", "my stack = 1"])
def test_settings_name_the_folder_as_java_reads_them(tmp_path: Path, name: str) -> None:
    """They are Latin-1 to Java: the data were written beside the folder, and left there by `down --volumes`."""
    place = homes.at(tmp_path / name)
    homes.create(place)
    format_data(place.data("controller"), "ours")
    commands = broker(place).prepare()
    assert next(commands).environment["LC_ALL"] == "C.UTF-8"
    settings = (place.root / "kafka.properties").read_bytes()
    assert settings.isascii()
    assert f"log.dirs={escaped(place.data('kafka'))}\n".encode() in settings


def test_data_that_java_formats_elsewhere_are_a_failed_start(home: Home) -> None:
    format_data(home.data("controller"), "ours")
    commands = broker(home).prepare()
    next(commands)  # its tool ends well, and nothing is there
    with pytest.raises(StartError, match="cannot name that folder"):
        next(commands)
