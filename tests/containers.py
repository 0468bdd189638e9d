"""The servers of a test run in containers: one set per run, on loopback, and nothing left however the run ends.

Images and settings are those of compose.yaml. The classes of `testcontainers` for Kafka fit another vendor's image, and
for this registry there is none, so both are here; PostgreSQL's is the library's.
"""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from deploy.local.servers.kafka import serves
from deploy.local.servers.postgres import SUPERUSER
from deploy.local.servers.registry import API
from deploy.local.stack.ports import Claims
from deploy.local.supervise.loopback import LOOPBACK, get
from deploy.provision.config import ProvisionSettings
from tests.compose import environment, image, services
from tests.ports import free_port
from tests.stack import Stack, template_name, write_role_secrets

START_SECONDS_MAX = 120.0
POLL_SECONDS = 0.2
REAPER = """
import sys, docker
sys.stdin.read()
for each in docker.from_env().containers.list(all=True, filters={"label": sys.argv[1]}):
    each.remove(force=True, v=True)
"""


class KafkaContainer(DockerContainer):
    """A broker of `apache/kafka` that is its own controller, at the same port inside and out: no test kills it.

    It directs clients to 127.0.0.1, which is this machine for them and the container for the broker itself: its
    transaction coordinator writes markers to its own advertised address.
    """

    def __init__(self, port: int) -> None:
        super().__init__(image("kafka"), env={**environment("controller"), **environment("kafka")})
        self.port = port
        on_loopback(self, port, port)
        self.with_env("KAFKA_PROCESS_ROLES", "broker,controller")
        self.with_env("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
        self.with_env("KAFKA_LISTENERS", f"PLAINTEXT://:{port},CONTROLLER://localhost:9093")
        self.with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://{LOOPBACK}:{port}")

    def serving(self) -> int:
        """Return the port once the broker serves."""
        return ready(self, lambda: serves(self.port), self.port)


class RegistryContainer(DockerContainer):
    """The schema registry. It keeps what it knows in memory: this run's schemas are of no use to another."""

    def __init__(self, port: int) -> None:
        super().__init__(image("registry"))
        self.port = port
        on_loopback(self, 8080, port)
        self.with_env("APICURIO_STORAGE_KIND", "sql")
        for name in ("QUARKUS_HTTP_HOST", "QUARKUS_HTTP_PORT", "QUARKUS_LOG_LEVEL", "JAVA_TOOL_OPTIONS"):
            self.with_env(name, environment("registry")[name])

    def serving(self) -> int:
        """Return the port once the registry serves."""
        return ready(self, lambda: get(self.port, f"{API}/subjects") is not None, self.port)


class Postgres(PostgresContainer):
    """The library's container, at a port of our choice, with the settings of compose.yaml."""

    def __init__(self, port: int, password: str) -> None:
        super().__init__(image("postgres"), username=SUPERUSER, password=password, dbname=SUPERUSER, driver="psycopg")
        on_loopback(self, 5432, port)
        self.with_env("POSTGRES_INITDB_ARGS", environment("postgres")["POSTGRES_INITDB_ARGS"])
        self.with_command(services()["postgres"]["command"])


@contextmanager
def container_stack(folder: Path) -> Iterator[Stack]:
    """Start all three; they and their data are gone at the end, also if this process is killed."""
    password = secrets.token_urlsafe()
    write_role_secrets(folder)
    with reaper(), Claims() as claims, ExitStack() as running:
        kafka = running.enter_context(KafkaContainer(free_port(claims)))
        registry = running.enter_context(RegistryContainer(free_port(claims)))
        postgres_port = free_port(claims)
        running.enter_context(Postgres(postgres_port, password))
        settings = ProvisionSettings(
            kafka_bootstrap=f"{LOOPBACK}:{kafka.serving()}",
            registry_url=f"http://{LOOPBACK}:{registry.serving()}{API}",
            postgres_admin_url=f"postgresql://{SUPERUSER}@{LOOPBACK}:{postgres_port}/postgres",
            postgres_admin_password=SecretStr(password),
            role_secrets_dir=folder,
        )
        yield Stack(settings, None, template_name())


@contextmanager
def reaper() -> Iterator[None]:
    """Have this run's containers removed once the block has ended, or this process has, however it ends.

    The library's own reaper is one more image to pull, with the engine's socket inside.
    """
    testcontainers_config.ryuk_disabled = True
    argv = [sys.executable, "-c", REAPER, f"{LABEL_SESSION_ID}={SESSION_ID}"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True):  # Ctrl-C is not for it
        yield


def on_loopback(container: DockerContainer, inside: int, outside: int) -> None:
    """Publish a port on loopback alone; the library's own method would do so on every interface."""
    container.ports[f"{inside}/tcp"] = cast(Any, (LOOPBACK, outside))


def ready(container: DockerContainer, serves: Callable[[], bool], port: int) -> int:
    """Return the port once it serves; fail with the container's last words if it does not come up."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while not serves():
        container.reload()
        said = b"\n".join(container.get_logs()).decode(errors="replace")[-2000:]
        assert container.status in {"created", "running"}, f"{container.image} ended\n{said}"
        assert time.monotonic() < deadline, f"{container.image} does not serve\n{said}"
        time.sleep(POLL_SECONDS)
    return port
