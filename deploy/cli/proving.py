"""The servers of one chaos command, its own, and fresh pipelines on them."""

import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from rich.console import Console

from audit.config import CheckerSettings
from chaos.run import heads
from chaos.run.pipeline import Pipeline
from chaos.run.processes import Child as ChildLike
from chaos.run.servers import Administrator, Broker, Server
from common.config import PostgresSettings
from common.kafka.admin import Admin
from common.topics import ALL_TOPICS, Topic
from deploy.cli.access import opened
from deploy.cli.checking import ROLE as CHECKER
from deploy.cli.throwaway import Throwaway, throwaway
from deploy.local.fetch import jars
from deploy.local.home import ROLES, read_secret
from deploy.local.stack import servers
from deploy.local.stack.ports import Claims
from deploy.local.stack.services import provision_environment, service_environment
from deploy.local.stack.view import PlainView
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.process import Child, child_environment
from deploy.local.supervise.runner import Runner, tick_until_settled
from deploy.provision import database, roles, stock
from deploy.provision.config import ProvisionSettings
from deploy.schemas.subjects import register_all
from onceloop.errors import ReportedError

TEMPLATE = "chaos_template"
PORTS = range(20_000, 32_000)
"""Below those that outgoing connections take theirs from: no client steals a port between claim and listen."""
SECOND_BROKER_ID = 3
COMMAND_SECONDS_MAX = 60.0
_TRIES = 100
_SESSIONS_END_SECONDS = 0.05


@contextmanager
def own_servers(console: Console) -> Iterator["OwnServers"]:
    """Yield servers in a folder of their own; nothing of them is left at the end. Progress goes to `console`."""
    _keep_clients_quiet()
    with throwaway("chaos") as place:
        console.print(f"starting Kafka, PostgreSQL and the registry in {place.home.root} ...", style="dim")
        jars.ensure(open_progress=PlainView(console, place.home).open_progress)
        with servers.start(place.home.root) as started, Claims() as claims:
            yield OwnServers(place, started, claims)


class OwnServers:
    """What the runs stand on: a migrated database to copy, roles, schemas."""

    def __init__(self, place: Throwaway, started: servers.Servers, claims: Claims) -> None:
        self._place, self._servers, self._claims = place, started, claims
        self.controller: Server = started.controller
        self.kafka: Server = started.kafka
        self.postgres: Server = started.postgres
        self.registry: Server = started.registry
        at = started.addresses
        self._settings = ProvisionSettings(
            kafka_bootstrap=at.kafka_bootstrap,
            registry_url=at.registry_url,
            postgres_admin_url=at.postgres_admin_url,
            postgres_admin_password=SecretStr(read_secret(at.postgres_admin_password_file)),
            role_secrets_dir=at.role_secrets_folder,
            database=TEMPLATE,
        )
        with database.administration(self._settings) as connection:
            roles.ensure_roles(connection, roles.read_passwords(at.role_secrets_folder))
            database.ensure_database(connection, TEMPLATE)
        with database.admin_connection(self._settings, TEMPLATE) as connection:
            database.migrate(connection)
        register_all(self._settings)

    @contextmanager
    def second_broker(self) -> Iterator[Broker]:
        """Have one more broker in the cluster while the block runs; it leads what is moved there, or made meanwhile."""
        first = self._servers.addresses.kafka
        program = replace(first, name="kafka-2", number=SECOND_BROKER_ID, port=self._free_port())
        runner = Runner(program, first.home, self._place.guardian)
        server = servers.Handle(runner)
        try:
            tick_until_settled([runner])
            yield Broker(SECOND_BROKER_ID, program.bootstrap, server)
        finally:
            server.stop()

    @contextmanager
    def pipeline(self, name: str, *, partitions: int) -> Iterator[Pipeline]:
        """Open a fresh pipeline; its processes, topics and database are gone at the end."""
        settings = self._settings.model_copy(update={"namespace": name, "database": f"chaos_{name.replace('-', '_')}"})
        topics = tuple(_resized(topic, partitions) for topic in ALL_TOPICS)
        folder = self._place.home.root / "pipelines" / name
        folder.mkdir(parents=True)
        admin = Admin(settings)
        children: list[Child] = []
        with ExitStack() as cleanup:
            with database.admin_connection(settings, "postgres") as connection:
                database.ensure_database(connection, settings.database, source=TEMPLATE)
            cleanup.callback(self._drop, settings)
            admin.create_topics(topics)
            cleanup.callback(_delete, admin, topics)
            admin.write_first_offsets(topics)
            begins = heads.age(settings, topics)
            shelves = _Shelves(self._role_settings("stock_admin", settings))
            cleanup.callback(_end, children)

            def launch(argv: tuple[str, ...], log: Path, environment: Mapping[str, str]) -> ChildLike:
                how = Launch(argv=(sys.executable, "-m", *argv), log=log, environment=environment)
                children.append(Child(how, self._place.guardian))
                return children[-1]

            def administer(statement: str, **values: Any) -> list[tuple[Any, ...]]:
                with database.admin_connection(settings, settings.database) as connection:
                    return _run(connection, statement, values)

            @contextmanager
            def session() -> Iterator[Administrator]:
                with database.admin_connection(settings, settings.database) as connection:
                    held = connection.execution_options(isolation_level="READ COMMITTED")
                    yield lambda statement, **values: _run(held, statement, values)

            pipeline = Pipeline(
                name=name,
                folder=folder,
                servers=self,
                settings=self._checker_settings(settings),
                environment=lambda role: self._environment(role, settings),
                launch=launch,
                free_port=self._free_port,
                administer=administer,
                session=session,
                shelves=shelves,
                command=lambda *argv: _pipeline(argv, self._operator(settings), folder),
                backup=lambda: self._back_up(settings),
                heads=begins,
                secrets=tuple(read_secret(settings.role_secrets_dir / role) for role in ROLES),
            )
            yield cleanup.enter_context(pipeline)

    def keep(self, target: Path) -> Path:
        """Copy what the pipelines and the servers have written about themselves; return where it is."""
        root = self._place.home.root
        shutil.rmtree(target, ignore_errors=True)
        for part in ("pipelines", "logs"):
            shutil.copytree(root / part, target / part, ignore_dangling_symlinks=True)
        return target

    def _environment(self, role: str | None, settings: ProvisionSettings) -> dict[str, str]:
        environment = service_environment(self._servers.addresses, role)
        environment["PIPELINE_NAMESPACE"] = settings.namespace
        if role is not None:
            url = self._servers.addresses.postgres_url(role, database=settings.database)
            environment["PIPELINE_POSTGRES_URL"] = url
        return environment

    def _operator(self, settings: ProvisionSettings) -> dict[str, str]:
        """Return what a person has set who may do everything."""
        return {
            **provision_environment(self._servers.addresses),
            **self._environment("reader", settings),
            "PIPELINE_DATABASE": settings.database,
        }

    def _back_up(self, settings: ProvisionSettings) -> Callable[[], None]:
        backup = f"{settings.database}_backup"

        def restore() -> None:
            with database.admin_connection(settings, "postgres") as connection:
                copy_database(connection, backup, settings.database)

        with database.admin_connection(settings, "postgres") as connection:
            copy_database(connection, settings.database, backup)
        return restore

    def _checker_settings(self, settings: ProvisionSettings) -> CheckerSettings:
        return CheckerSettings(
            namespace=settings.namespace,
            kafka_bootstrap=settings.kafka_bootstrap,
            registry_url=settings.registry_url,
            postgres_url=self._servers.addresses.postgres_url(CHECKER, database=settings.database),
            postgres_password=SecretStr(read_secret(settings.role_secrets_dir / CHECKER)),
        )

    def _role_settings(self, role: str, settings: ProvisionSettings) -> PostgresSettings:
        return PostgresSettings(
            postgres_url=self._servers.addresses.postgres_url(role, database=settings.database),
            postgres_password=SecretStr(read_secret(settings.role_secrets_dir / role)),
        )

    def _free_port(self) -> int:
        for _ in range(_TRIES):
            port = random.choice(PORTS)  # noqa: S311 - no secret: any port will do
            if self._claims.claim(port):
                return port
        raise ReportedError(f"no free port between {PORTS.start} and {PORTS.stop}", cure="close what listens there")

    def _drop(self, settings: ProvisionSettings) -> None:
        with suppress(sa.exc.OperationalError), database.admin_connection(settings, "postgres") as connection:
            for name in (settings.database, f"{settings.database}_backup"):
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class _Shelves:
    """`pipeline stock` on the database of one pipeline."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings

    def set(self, sku: str, units: int) -> stock.Balance:
        """Have so many on hand."""
        with opened(self._settings) as connection:
            return stock.set_on_hand(connection, sku, units)

    def add(self, sku: str, units: int) -> stock.Balance:
        """Put so many more there."""
        with opened(self._settings) as connection:
            return stock.add(connection, sku, units)


def _pipeline(argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """Run the command as a person does who has no stack here, only the addresses."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *argv],
        env=child_environment(os.environ, {**environment, "PIPELINE_HOME": str(folder / "no-stack")}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise ReportedError(f"pipeline {' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def copy_database(connection: sa.Connection, source: str, target: str) -> None:
    """Make one database what another is at this moment; every session of either ends.

    Raises ReportedError if sessions come faster than they are ended.
    """
    connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")
    connection.exec_driver_sql(f"ALTER DATABASE {source} ALLOW_CONNECTIONS false")
    try:
        for _ in range(_TRIES):
            sessions = connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": source},
            )
            if not sessions.all():
                database.ensure_database(connection, target, source=source)
                return
            time.sleep(_SESSIONS_END_SECONDS)
    finally:
        connection.exec_driver_sql(f"ALTER DATABASE {source} ALLOW_CONNECTIONS true")
    raise ReportedError(f"sessions of {source} do not end", cure="look who holds them: pipeline psql")


def _run(connection: sa.Connection, statement: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    result = connection.execute(sa.text(statement), values)
    return [tuple(row) for row in result] if result.returns_rows else []


def _resized(topic: Topic, partitions: int) -> Topic:
    return replace(topic, partitions=partitions) if topic.partitions > 1 else topic


def _delete(admin: Admin, topics: Sequence[Topic]) -> None:
    with suppress(ReportedError):  # a run may have left the broker down
        admin.delete_topics(topics)


def _end(children: Sequence[Child]) -> None:
    for child in children:
        child.kill()


def _keep_clients_quiet() -> None:
    """Leave the terminal to the findings: our own clients run inside this command, and they log."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
