"""The servers of a local stack: real processes, killed, started again, moved to other ports."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without __all__
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from deploy.local.servers.addresses import Addresses
from deploy.local.stack import servers
from deploy.local.stack.servers import Servers
from deploy.local.supervise.diagnosis import StartError
from deploy.local.supervise.guardian import lives

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

TOPIC = "survivor"
SECONDS_MAX = 10.0


def write_everywhere(at: Addresses) -> None:
    admin = AdminClient({"bootstrap.servers": at.kafka_bootstrap})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(10)
    producer = Producer({"bootstrap.servers": at.kafka_bootstrap})
    producer.produce(TOPIC, b"record")
    assert producer.flush(10) == 0
    with psycopg.connect(at.postgres_dsn(database="postgres")) as connection:
        connection.execute("CREATE TABLE survivor AS SELECT 7 AS answer")
    with SchemaRegistryClient({"url": at.registry_url}) as registry:
        registry.register_schema("survivor-value", Schema('"string"', "AVRO"))


def assert_all_is_there(at: Addresses) -> None:
    consumer = Consumer({"bootstrap.servers": at.kafka_bootstrap, "group.id": "any"})
    consumer.assign([TopicPartition(TOPIC, 0, 0)])
    record = consumer.poll(10)
    consumer.close()
    assert record is not None
    assert record.value() == b"record"
    with psycopg.connect(at.postgres_dsn(database="postgres")) as connection:
        assert connection.execute("SELECT answer FROM survivor").fetchone() == (7,)
    with SchemaRegistryClient({"url": at.registry_url}) as registry:
        assert registry.get_latest_version("survivor-value").schema.schema_str == '"string"'


def processes(stack: Servers) -> list[psutil.Process]:
    tops = [psutil.Process(pid) for pid in stack.pids.values()]
    return [each for top in tops for each in (top, *top.children(recursive=True))]


def wait_until(condition: Callable[[], bool]) -> bool:
    """A signal is on its way for a moment."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_data_outlive_kills_and_a_second_start_on_other_ports(tmp_path: Path) -> None:
    """Aim: a stack can be trusted with orders. Fault: SIGKILL of each server; then a restart with all ports taken.

    Records, rows and schemas are there each time, clients find the new ports, and nothing stays behind.
    """
    home = tmp_path / "stack"
    with servers.start(home) as stack:
        write_everywhere(stack.addresses)
        for handle in stack.handles.values():
            former = handle.pid
            handle.kill()
            handle.start()
            assert handle.pid != former
        assert_all_is_there(stack.addresses)
        ran = processes(stack)
        at = stack.addresses
        former_ports = [at.kafka.port, at.controller.port, at.postgres.port, at.registry.port]
    assert not [each for each in ran if lives(each)]

    squatters = [socket.create_server(("127.0.0.1", port)) for port in former_ports]
    try:
        with servers.start(home) as stack:
            at = stack.addresses
            assert not {at.kafka.port, at.controller.port, at.postgres.port, at.registry.port} & set(former_ports)
            assert_all_is_there(at)
    finally:
        for squatter in squatters:
            squatter.close()


def test_frozen_server_goes_on_when_it_is_thawed(tmp_path: Path) -> None:
    with servers.start(tmp_path / "stack", only={servers.POSTGRES}) as stack:
        stack.postgres.freeze()
        assert wait_until(lambda: {each.status() for each in processes(stack)} == {psutil.STATUS_STOPPED})
        stack.postgres.thaw()
        with psycopg.connect(stack.addresses.postgres_dsn(database="postgres")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_wrong_password_does_not_open_the_database(tmp_path: Path) -> None:
    with (
        servers.start(tmp_path / "stack", only={servers.POSTGRES}) as stack,
        pytest.raises(psycopg.OperationalError, match="password authentication failed"),
    ):
        psycopg.connect(stack.addresses.postgres_admin_url, password="guess", connect_timeout=5)


def test_data_of_another_version_end_the_start_with_line_and_cure(tmp_path: Path) -> None:
    home = tmp_path / "stack"
    with servers.start(home, only={servers.POSTGRES}):
        pass
    (home / "postgres" / "PG_VERSION").write_text("12\n", encoding="utf-8")
    with pytest.raises(StartError, match="incompatible") as failed, servers.start(home, only={servers.POSTGRES}):
        pass
    assert "the checkout that wrote it" in failed.value.cure
    assert str(home / "logs" / "postgres.log") in failed.value.cure


def test_pid_file_of_a_crash_does_not_stop_the_start_when_another_program_has_the_pid(tmp_path: Path) -> None:
    """After a power cut the pid in the file soon belongs to another process; PostgreSQL alone would refuse to start."""
    home = tmp_path / "stack"
    with servers.start(home, only={servers.POSTGRES}) as stack:
        pid_file = home / "postgres" / "postmaster.pid"
        left = pid_file.read_text(encoding="utf-8").splitlines()
        stack.postgres.kill()
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
            pid_file.write_text("\n".join([str(stranger.pid), *left[1:]]) + "\n", encoding="utf-8")
            stack.postgres.start()
            stranger.kill()


def test_killed_owner_leaves_no_server_behind(tmp_path: Path) -> None:
    """Aim: no orphan, whatever happens to a test run. Fault: SIGKILL of the process that holds the stack."""
    holder = (
        "import sys, time, pathlib\n"
        "from deploy.local.stack import servers\n"
        "with servers.start(pathlib.Path(sys.argv[1]), only={'postgres'}) as stack:\n"
        "    print(stack.postgres.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", holder, str(tmp_path / "stack")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        below = [server, *server.children(recursive=True)]
        owner.kill()
    assert wait_until(lambda: not any(lives(each) for each in below))
