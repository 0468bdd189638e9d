"""The stack of one measurement: servers of its own, stock to measure on, workers to start, orders ahead of them."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import structlog
from pydantic import SecretStr
from rich.console import Console

from audit.config import CheckerSettings
from audit.rules.judge import Judgement
from audit.whole import audit
from benchmarks import orders
from benchmarks.worker import Worker, WorkerError
from common.kafka.admin import Admin
from common.topics import INVENTORY
from deploy.cli.checking import ROLE as CHECKER
from deploy.cli.throwaway import Throwaway, throwaway
from deploy.cli.verify import show
from deploy.local.fetch import jars
from deploy.local.home import read_secret
from deploy.local.servers.addresses import Addresses
from deploy.local.stack import servers
from deploy.local.stack.ports import HEALTH, Claims, assign
from deploy.local.stack.services import service_environment
from deploy.local.stack.view import PlainView
from deploy.local.supervise import logs
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.process import Child
from deploy.provision import database, demo
from deploy.provision.config import ProvisionSettings
from deploy.provision.run import provision
from services.table import BY_NAME

NAMESPACE = ""
"""The servers are its own; a name left over in a shell must not count."""
DECIDED_APP = "benchmarks.decided_app"
AUDIT_SECONDS = 300.0
TAIL_LINES = 20


@contextmanager
def measuring_stack(console: Console, *, seed: int) -> Iterator["MeasuringStack"]:
    """Yield a provisioned stack in a folder of its own; nothing of it is left at the end. Progress goes to `console`.

    A worker's failure carries the end of its log, since the log goes too.
    """
    _keep_clients_quiet()
    with throwaway("bench") as place:
        console.print(f"starting Kafka, PostgreSQL and the registry in {place.home.root} ...")
        jars.ensure(open_progress=PlainView(console, place.home).open_progress)
        with servers.start(place.home.root) as started:
            settings = _settings(started.addresses)
            _provision(settings)
            with closing(orders.Loader(settings, seed=seed)) as loader:
                stack = MeasuringStack(place, started.addresses, loader, Admin(settings), console)
                try:
                    yield stack
                except WorkerError as error:
                    tail = "\n".join(logs.last_lines(stack.log, TAIL_LINES))
                    raise WorkerError(f"{error.message}; its log ends:\n{tail}", cure=error.cure) from error


class MeasuringStack:
    """What a measurement needs of the stack."""

    def __init__(
        self, place: Throwaway, addresses: Addresses, loader: orders.Loader, admin: Admin, console: Console
    ) -> None:
        self._place, self._addresses, self._loader, self._admin = place, addresses, loader, admin
        self._console = console
        ports, _ = assign(place.home, [HEALTH], Claims())
        self._port = ports[HEALTH]

    @property
    def log(self) -> Path:
        """The log of all workers, one after the other."""
        return self._place.home.log("inventory")

    def unread(self) -> int:
        """Return how many orders lie behind the group's committed offsets; the input's offsets are dense."""
        return self._loader.loaded - sum(point.offset for point in self._admin.committed(INVENTORY).values())

    def load(self, count: int) -> None:
        """Put so many more orders on the topic."""
        began = time.monotonic()
        self._loader.load(count)
        self._console.print(f"{count:,} orders put ahead in {time.monotonic() - began:.1f} s")

    def start(self, batch: int) -> Worker:
        """Start the inventory worker of slot 0, with so many orders per transaction at most."""
        environment = service_environment(self._addresses, "inventory_rw") | {
            "PIPELINE_NAMESPACE": NAMESPACE,
            "PIPELINE_SLOT": "0",
            "PIPELINE_HEALTH_PORT": str(self._port),
            "PIPELINE_BATCH_RECORDS_MAX": str(batch),
        }
        launch = Launch(argv=BY_NAME["inventory"].argv, log=self.log, environment=environment)
        return Worker(Child(launch, self._place.guardian), port=self._port)

    def prepare_decided(self, batch: int) -> None:
        """Make what the app on the generic store needs. Raises WorkerError."""
        environment = {**os.environ, **self._decided_environment(batch)}
        command = [sys.executable, "-m", DECIDED_APP, "prepare"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkerError(f"the app could not be prepared: {done.stderr}", cure="read what it says")

    def start_decided(self, batch: int) -> Worker:
        """Start the app that decides as the inventory does, on the generic store; its tables are its own."""
        argv = (sys.executable, "-m", DECIDED_APP)
        launch = Launch(argv=argv, log=self.log, environment=self._decided_environment(batch))
        return Worker(Child(launch, self._place.guardian), port=self._port)

    def _decided_environment(self, batch: int) -> dict[str, str]:
        return service_environment(self._addresses, "inventory_rw") | {
            "PIPELINE_NAMESPACE": NAMESPACE,
            "PIPELINE_BENCH_POSTGRES": self._addresses.postgres_dsn(),
            "PIPELINE_BENCH_BATCH": str(batch),
            "PIPELINE_BENCH_HEALTH_PORT": str(self._port),
        }

    def judge(self, batch: int) -> Judgement:
        """Let a worker do what is left, then show and return the verdict on all that was done here."""
        self._console.print("the rest is worked off, and the checker reads all of it ...")
        began = time.monotonic()
        worker = self.start(batch)
        judgement = audit(
            _checker_settings(self._addresses), wait_seconds=AUDIT_SECONDS, followers=False, restocked=False
        )
        worker.stop()
        show(judgement, time.monotonic() - began, self._console)
        return judgement


def _settings(addresses: Addresses) -> ProvisionSettings:
    return ProvisionSettings(
        namespace=NAMESPACE,
        kafka_bootstrap=addresses.kafka_bootstrap,
        registry_url=addresses.registry_url,
        postgres_admin_url=addresses.postgres_admin_url,
        postgres_admin_password=SecretStr(read_secret(addresses.postgres_admin_password_file)),
        role_secrets_dir=addresses.role_secrets_folder,
    )


def _checker_settings(addresses: Addresses) -> CheckerSettings:
    return CheckerSettings(
        namespace=NAMESPACE,
        kafka_bootstrap=addresses.kafka_bootstrap,
        registry_url=addresses.registry_url,
        postgres_url=addresses.postgres_url(CHECKER),
        postgres_password=SecretStr(read_secret(addresses.role_secrets_folder / CHECKER)),
    )


def _provision(settings: ProvisionSettings) -> None:
    provision(settings, lambda _: None)
    with database.admin_connection(settings, settings.database) as connection:
        demo.insert_missing(connection, orders.shelves())
        connection.exec_driver_sql("ANALYZE inventory.stock")  # as autovacuum does within a minute


def _keep_clients_quiet() -> None:
    """Leave standard output to the findings: our clients run inside this command, and they log."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
