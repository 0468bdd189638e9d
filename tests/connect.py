"""A Connect worker beside the servers of a run, and the sinks of a pipeline on it."""

import http.client
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audit.config import CheckerSettings
from deploy.local import home as homes
from deploy.local.fetch import jars
from deploy.local.fetch.connect_plugins import SETS
from deploy.local.servers.connect import MONGO, Connect
from deploy.local.servers.connect_status import PATH, Connector, parse
from deploy.local.stack.ports import Claims
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.loopback import LOOPBACK
from deploy.local.supervise.process import Child, stop_all
from deploy.local.supervise.runner import Runner, tick_until_settled
from deploy.provision.config import ProvisionSettings
from deploy.provision.run import connect
from tests.pipeline import Pipeline
from tests.stack import Stack

REQUEST_SECONDS = 30.0
NEVER_MS = 3_600_000
NO_MONGO = "none"  # refused at once; an address without an answer is tried for ten seconds


@dataclass(frozen=True, slots=True)
class Worker:
    """A running worker: ask it, kill it, start it again."""

    runner: Runner
    port: int
    home: homes.Home

    @property
    def log(self) -> str:
        return self.runner.log.read_text()

    def call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Return status and body."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=REQUEST_SECONDS)
        with closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def connectors(self) -> dict[str, Connector]:
        status, text = self.call("GET", PATH)
        return {each.name: each for each in parse(text)} if status == 200 else {}

    def settings(self, pipeline: Pipeline, **changed: Any) -> ProvisionSettings:
        """Return the settings by which provisioning puts this pipeline's sinks here."""
        return pipeline.settings.model_copy(
            update={
                "connect_url": f"http://{LOOPBACK}:{self.port}",
                "connect_credentials": str(self.home.data("connect") / "credentials.properties"),
                **changed,
            }
        )

    def kill(self) -> None:
        self._child.kill()

    def start(self) -> None:
        self.runner.start_again()
        tick_until_settled([self.runner])

    @property
    def _child(self) -> Child:
        assert self.runner.child is not None
        return self.runner.child


@contextmanager
def running_connect(stack: Stack, folder: Path, *, namespace: str, mongo: str = NO_MONGO) -> Iterator[Worker]:
    """Start a worker with a group of its own; end it afterwards."""
    home = homes.at(folder)
    homes.create(home)
    shutil.copy(stack.settings.role_secrets_dir / "connect_rw", home.role_secrets / "connect_rw")
    (home.secrets / MONGO).write_text(mongo)
    guardian = Guardian()
    with Claims() as claims, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/New_York")  # times must not depend on where a worker runs
        port = next(port for port in range(18083, 18583) if claims.claim(port))
        program = Connect(home, jars.ensure(sets=SETS), stack.settings.kafka_bootstrap, port, namespace, NEVER_MS)
        runner = Runner(program, home, guardian)
        worker = Worker(runner, port, home)
        try:
            tick_until_settled([runner])
            yield worker
        finally:
            stop_all([child] if (child := runner.halt()) else [], grace_seconds=2)
            guardian.close()


def put_sinks(worker: Worker, pipeline: Pipeline, *, stores: str = "postgres") -> tuple[str, ...]:
    """Have provisioning put the pipeline's sinks there; return what it changed."""
    return connect(worker.settings(pipeline, connect_stores=stores), pipeline.admin).changed


def checker_settings(pipeline: Pipeline) -> CheckerSettings:
    postgres = pipeline.postgres("checker")
    return CheckerSettings(
        namespace=pipeline.namespace,
        kafka_bootstrap=pipeline.kafka.kafka_bootstrap,
        registry_url=pipeline.kafka.registry_url,
        postgres_url=postgres.postgres_url,
        postgres_password=postgres.postgres_password,
    )
