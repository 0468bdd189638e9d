from pathlib import Path

import pytest

from deploy.local.supervise.diagnosis import PortTakenError, error_line, explain

LINES = {
    "another program took the port": [
        "java.net.BindException: Address already in use",
        'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use',
        "io.quarkus.runtime.QuarkusBindException: Port 8081 seems to be in use by another process",
        "Connection in use: ('127.0.0.1', 8080)",
        "PIPELINE_HEALTH_PORT: cannot listen on 127.0.0.1:8090: Address already in use",
    ],
    "free some disk space": [
        'PANIC:  could not write to file "pg_wal/xlogtemp.1": No space left on device',
        "java.io.IOException: No space left on device",
    ],
    "another version's": [
        "FATAL:  database files are incompatible with server",
        "Exception: Unsupported metadata.version 31",
    ],
    "free some memory": [
        "java.lang.OutOfMemoryError: Java heap space",
        "Error occurred during initialization of VM: Could not reserve enough space for 524288KB object heap",
        "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
    ],
    "a file of the cache is damaged": [
        "Error: Invalid or corrupt jarfile /cache/quarkus-run.jar",
        "Caused by: java.lang.ClassNotFoundException: kafka.Kafka",
    ],
    "an earlier server still uses the data": [
        'FATAL:  lock file "postmaster.pid" already exists',
        "org.apache.kafka.common.KafkaException: Failed to acquire lock on file .lock in /data/kafka.",
    ],
    "belongs to another user": [
        'FATAL:  data directory "/data/postgres" has wrong ownership',
        "mkdir: cannot create directory: Permission denied",
    ],
    "the environment lacks a package": ["ModuleNotFoundError: No module named 'flask'"],
}


@pytest.mark.parametrize(("cure", "line"), [(cure, line) for cure, lines in LINES.items() for line in lines])
def test_known_line_gets_its_cure(tmp_path: Path, cure: str, line: str) -> None:
    log = tmp_path / "kafka.log"
    log.write_text(f"starting\n{line}\n\tat some.Frame\n", encoding="utf-8")
    error = explain("kafka", log, since=0, code=1)
    assert line in error.message
    assert cure in error.cure
    assert str(log) in error.cure
    assert isinstance(error, PortTakenError) == (cure == "another program took the port")


def test_lines_of_an_earlier_start_are_not_blamed(tmp_path: Path) -> None:
    log = tmp_path / "kafka.log"
    log.write_text("No space left on device\n", encoding="utf-8")
    since = log.stat().st_size
    with log.open("a", encoding="utf-8") as more:
        more.write("ERROR something new\n")
    assert "something new" in explain("kafka", log, since=since, code=1).message


def test_unknown_trouble_shows_its_first_line_of_error(tmp_path: Path) -> None:
    log = tmp_path / "registry.log"
    log.write_text("banner\nERROR the cause\nERROR a consequence\n", encoding="utf-8")
    assert explain("registry", log, since=0, code=3).message == "registry did not start (exit code 3): ERROR the cause"


def test_silent_end_is_reported_too(tmp_path: Path) -> None:
    error = explain("kafka", tmp_path / "absent.log", since=0, code=-9)
    assert error.message == "kafka was ended by SIGKILL while starting, and said nothing"


def test_late_start_is_distinguished_from_an_end(tmp_path: Path) -> None:
    assert "did not become ready in time" in explain("kafka", tmp_path / "absent.log", since=0, code=None).message


def test_refused_settings_are_shown_as_the_service_said_them(tmp_path: Path) -> None:
    log = tmp_path / "inventory-0.log"
    log.write_text("PIPELINE_SLOT: is not set (for example PIPELINE_SLOT=0)\n", encoding="utf-8")
    error = explain("inventory-0", log, since=0, code=78)
    assert "inventory-0 refuses its settings:\nPIPELINE_SLOT: is not set" in error.message


def test_last_line_stands_in_when_no_line_speaks_of_an_error() -> None:
    assert error_line(["one", "two", ""]) == "two"
    assert error_line([]) == ""
