"""What the local stack shows of its connectors, and how it lays out their plugins."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.fetch import connect_plugins
from deploy.local.fetch.artifacts import STACK, Artifact
from deploy.local.fetch.connect_plugins import SETS
from deploy.local.fetch.jars import Jars
from deploy.local.servers.connect import Connect, ConnectPart
from deploy.local.servers.connect_status import lines, parse

TRACE = """org.apache.kafka.connect.errors.ConnectException: Exiting WorkerSinkTask due to unrecoverable exception.
\tat org.apache.kafka.connect.runtime.WorkerSinkTask.deliverMessages(WorkerSinkTask.java:628)
Caused by: org.apache.kafka.connect.errors.ConnectException: JDBC sink connector failure
\t... 12 more
Caused by: java.sql.SQLException: Could not find table: analytics.failed
\t... 17 more
"""


def answer(state: str, *tasks: dict[str, str], trace: str = "") -> str:
    own = {"state": state, "worker_id": "127.0.0.1:8083", **({"trace": trace} if trace else {})}
    return json.dumps({"postgres-failed": {"status": {"connector": own, "tasks": list(tasks), "type": "sink"}}})


def make_cache(folder: Path) -> Jars:
    """A cache as it is after fetching: an archive with a driver too many, and plain jars."""

    def artifact(name: str, packaging: str = "jar") -> Artifact:
        return Artifact("org.example", name, "1", "", packaging, hashlib.sha256(name.encode()).hexdigest(), 1)

    further = {name: (artifact(name, "tar.gz" if name == "connect-jdbc" else "jar"),) for name in SETS}
    cache = Jars(folder, (artifact(STACK),), further)
    (folder / "jars").mkdir()
    for name in SETS[1:]:
        cache.paths(name)[0].write_bytes(b"jar")
    unpacked = cache.paths("connect-jdbc")[0] / "debezium-connector-jdbc"
    unpacked.mkdir(parents=True)
    for name in ("sink-3.jar", "postgresql-42.jar", "ojdbc11-23.jar", "kafka-clients-4.jar", "README.md"):
        (unpacked / name).write_bytes(b"")
    return cache


def test_running_connector_takes_one_line() -> None:
    (line,) = lines(parse(answer("RUNNING", {"state": "RUNNING"})), "http://connect")
    assert line.split() == ["connector", "postgres-failed", "RUNNING", "tasks", "1/1"]


def test_failed_task_is_reported_by_its_first_line_its_cause_and_the_cure() -> None:
    shown = list(lines(parse(answer("RUNNING", {"state": "FAILED", "trace": TRACE})), "http://connect"))
    assert shown[0].split()[2:] == ["FAILED", "tasks", "0/1"]
    assert "unrecoverable exception. / Caused by: java.sql.SQLException: Could not find table" in shown[1]
    assert "curl -X POST 'http://connect/connectors/postgres-failed/restart?" in shown[2]


def test_connector_that_failed_before_it_had_tasks_is_failed() -> None:
    (connector,) = parse(answer("FAILED", trace="java.lang.IllegalStateException: no\n"))
    assert (connector.state, connector.why) == ("FAILED", "java.lang.IllegalStateException: no")


@pytest.mark.parametrize(
    ("own", "tasks", "state"),
    [
        ("RUNNING", [], "STARTING"),
        ("RUNNING", ["RUNNING", "UNASSIGNED"], "UNASSIGNED"),
        ("PAUSED", ["PAUSED"], "PAUSED"),
        ("STOPPED", [], "STOPPED"),
    ],
)
def test_state_is_the_worst_of_connector_and_tasks(own: str, tasks: list[str], state: str) -> None:
    (connector,) = parse(answer(own, *({"state": each} for each in tasks)))
    assert connector.state == state


def test_worker_that_does_not_answer_is_reported() -> None:
    (line,) = ConnectPart().lines({"connect": 1})
    assert "pipeline logs connect" in line


def test_each_plugin_gets_a_folder_with_its_wanted_jars_and_a_manifest(tmp_path: Path) -> None:
    folder = connect_plugins.lay_out(make_cache(tmp_path))
    assert sorted(path.name for path in folder.iterdir()) == sorted(SETS)
    assert sorted(path.name for path in (folder / "connect-jdbc").iterdir()) == ["postgresql-42.jar", "sink-3.jar"]
    with zipfile.ZipFile(folder / "connect-mongo" / "manifest.jar") as manifest:
        (entry,) = manifest.namelist()
        assert entry == "META-INF/services/org.apache.kafka.connect.sink.SinkConnector"
        assert manifest.read(entry) == b"com.mongodb.kafka.connect.MongoSinkConnector\n"


def test_plugins_are_laid_out_once(tmp_path: Path) -> None:
    cache = make_cache(tmp_path)
    first = connect_plugins.lay_out(cache)
    (first / "seen").touch()
    assert (connect_plugins.lay_out(cache) / "seen").exists()
    assert not list(tmp_path.glob("plugins-aside-*"))


def test_password_stands_in_a_file_for_its_owner_alone_and_nowhere_else(tmp_path: Path) -> None:
    home = homes.at(tmp_path / "home")
    homes.create(home)
    (tmp_path / "cache").mkdir()
    worker = Connect(home, make_cache(tmp_path / "cache"), "127.0.0.1:9092", 8083, "staging")
    assert list(worker.prepare()) == []
    password = homes.read_secret(home.role_secrets / "connect_rw")
    file = home.data("connect") / "credentials.properties"
    assert file.read_text() == f"connect_rw={password}\n"
    assert file.stat().st_mode & 0o077 == 0
    settings = (home.data("connect") / "worker.properties").read_text()
    launch = worker.launch()
    assert password not in settings + " ".join(launch.argv) + " ".join(launch.environment.values())
    assert "group.id=staging.connect\n" in settings
    assert "config.storage.topic=staging.connect.configs\n" in settings
    assert "consumer.isolation.level=read_committed\n" in settings
