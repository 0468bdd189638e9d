"""When the broker of a local stack may start, as its data tell."""

from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.diagnosis import StartError
from deploy.local.home import Home
from deploy.local.kafka import Kafka
from deploy.local.kafka_controller import KafkaController
from deploy.local.kafka_node import SESSION_SECONDS


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
    (command,) = commands(broker(home))
    assert command[-2:] == ("--cluster-id", "ours")


def test_broker_that_was_stopped_starts_at_once(home: Home) -> None:
    for name in ("controller", "kafka"):
        format_data(home.data(name), "ours")
    (home.data("kafka") / ".kafka_cleanshutdown").touch()
    assert commands(broker(home)) == []


def test_broker_that_was_killed_waits_until_its_former_self_is_held_for_dead(home: Home) -> None:
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
