"""Variables that other programs read, set in the shell of a user: none bends the stack."""

import json
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.servers.java import java
from deploy.local.stack import doctor
from deploy.local.stack.servers import PORTS
from deploy.local.stack.totals import Totals, totals_of
from deploy.local.supervise.process import child_environment

JAVA = {
    "JAVA_TOOL_OPTIONS": "-Dx=y -Xmx333m -XX:MaxHeapFreeRatio=99",
    "JDK_JAVA_OPTIONS": "-Dx=y -Xmx333m -XX:MaxHeapFreeRatio=99",
    "_JAVA_OPTIONS": "-Dx=y -Xmx333m -XX:MaxHeapFreeRatio=99",
    "CLASSPATH": "/elsewhere/kafka.jar",
    "KAFKA_OPTS": "-javaagent:/elsewhere.jar",
    "KAFKA_HEAP_OPTS": "-Xmx1g",
    "LOG4J_CONFIGURATION_FILE": "/elsewhere.xml",
    "QUARKUS_HTTP_PORT": "1",
    "APICURIO_STORAGE_KIND": "kafkasql",
}
LIBPQ = {
    "PGHOSTADDR": "127.0.0.99",
    "PGHOST": "elsewhere",
    "PGPORT": "1",
    "PGUSER": "another",
    "PGSERVICE": "a-service-that-no-file-names",
    "PGOPTIONS": "-c search_path=elsewhere",
    "PGSSLMODE": "verify-full",
    "PGGSSENCMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "gss",
    "PGCLIENTENCODING": "LATIN1",
    "PGPASSFILE": "/elsewhere",
}
STARTUP = b"user\0reader\0database\0pipeline\0"


@pytest.mark.parametrize("variable", JAVA)
def test_java_variable_of_the_shell_reaches_no_process_of_the_stack(variable: str) -> None:
    assert child_environment({"PATH": "/bin", variable: JAVA[variable]}, {"CLASSPATH": "ours"}) == {
        "PATH": "/bin",
        "CLASSPATH": "ours",
    }


@pytest.mark.parametrize("variable", ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"])
def test_java_variable_of_the_shell_changes_no_heap_of_ours(variable: str) -> None:
    ran = subprocess.run(
        [java(), "-Xmx64m", "-XX:-UsePerfData", "-XX:+PrintFlagsFinal", "-version"],
        env=child_environment({**os.environ, variable: JAVA[variable]}, {}),
        capture_output=True,
        text=True,
        check=True,
    )
    flags = dict(re.findall(r"^ *\w+ (\w+) += (\S+)", ran.stdout, flags=re.MULTILINE))
    assert (flags["MaxHeapSize"], flags["MaxHeapFreeRatio"]) == (str(64 * 2**20), "70")


@pytest.mark.parametrize("variable", ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"])
def test_doctor_shows_the_java_version_whatever_java_picks_up(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, JAVA[variable])
    assert re.match(r'openjdk version "\d+', doctor._java().finding)


@pytest.mark.parametrize("variable", LIBPQ)
def test_libpq_variable_of_the_shell_leads_no_connection_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    """libpq itself connects, to a listener that notes what it is asked for and lets go."""
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        given = dict.fromkeys(PORTS, 1) | {"postgres": server.getsockname()[1]}
        home.ports.write_text(json.dumps(given), encoding="utf-8")
        monkeypatch.setenv(variable, LIBPQ[variable])

        def listen() -> None:
            for _ in range(3):  # for SSL and GSS it asks before
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    while not (asked and STARTUP in asked[-1]) and (said := connection.recv(4096)):
                        asked.append(said)
                        if STARTUP not in said:
                            connection.sendall(b"N")
                if asked and STARTUP in asked[-1]:
                    return

        listener = threading.Thread(target=listen)
        listener.start()
        assert totals_of(home) == Totals()
        server.shutdown(socket.SHUT_RDWR)
        listener.join(10)
    assert asked, "nothing reached the stack's database"
    assert STARTUP in asked[-1]
    assert b"elsewhere" not in asked[-1]
    assert b"LATIN1" not in asked[-1]


def test_database_named_in_the_shell_reaches_no_process_of_the_stack() -> None:
    """Red before: the stack provisioned one database, and its services asked for another."""
    assert child_environment({"PATH": "/bin", "PIPELINE_DATABASE": "elsewhere"}, {}) == {"PATH": "/bin"}
