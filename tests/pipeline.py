"""One test's pipeline on the servers of the run: its own topics, groups and database, and the processes it starts."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from common.config import KafkaSettings, PostgresSettings
from common.kafka.admin import Admin
from common.kafka.schema_registry import register_all
from common.postgres.engine import create_engine
from common.topics import ALL_TOPICS, Topic
from deploy.provision import database, roles
from deploy.provision.config import ProvisionSettings
from onceloop.errors import ReportedError
from onceloop.postgres.options import Target
from tests.processes import Process, Processes
from tests.stack import Stack

READERS = {"reader", "checker"}


@contextmanager
def prepare(stack: Stack) -> Iterator[None]:
    """Do once per run what its tests share: roles, schemas, a migrated database to copy."""
    settings = stack.settings
    with database.administration(settings) as connection:
        roles.ensure_roles(connection, roles.read_passwords(settings.role_secrets_dir))
        database.ensure_database(connection, stack.template)
    try:
        with database.admin_connection(settings, stack.template) as connection:
            database.migrate(connection)
        register_all(settings)
        yield
    finally:
        _drop(settings, stack.template)


@contextmanager
def open_pipeline(stack: Stack, *, logs: Path, partitions: int | None = None) -> Iterator["Pipeline"]:
    """Provision a fresh namespace and database; end the processes and remove all of it afterwards."""
    token = secrets.token_hex(5)
    settings = stack.settings.model_copy(update={"namespace": f"t{token}", "database": f"test_{token}"})
    topics = tuple(_resized(topic, partitions) for topic in ALL_TOPICS)
    admin = Admin(settings)
    with ExitStack() as cleanup:
        cleanup.callback(_drop, settings, settings.database)
        with database.admin_connection(settings, "postgres") as connection:
            database.ensure_database(connection, settings.database, source=stack.template)
        cleanup.callback(_delete, admin, topics)
        admin.create_topics(topics)
        admin.write_first_offsets(topics)
        processes = cleanup.enter_context(Processes(logs))
        yield Pipeline(stack, settings, topics, admin, processes)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What a test works with."""

    stack: Stack
    settings: ProvisionSettings
    topics: tuple[Topic, ...]
    admin: Admin
    processes: Processes

    @property
    def namespace(self) -> str:
        return self.settings.namespace

    @property
    def kafka(self) -> KafkaSettings:
        return self.settings

    def postgres(self, role: str) -> PostgresSettings:
        """Return the settings of a role in this test's database."""
        return PostgresSettings(
            postgres_url=self._url(role), postgres_password=SecretStr(self._password_file(role).read_text().strip())
        )

    @contextmanager
    def connect(self, role: str) -> Iterator[sa.Connection]:
        """Yield a connection as a role, through the engine that the product uses."""
        target: Target = "any" if role in READERS else "read-write"
        engine = create_engine(self.postgres(role), application="test", pool_size=1, target=target)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    @contextmanager
    def administer(self) -> Iterator[sa.Connection]:
        """Yield the superuser's connection to this test's database; every statement is its own transaction."""
        with database.admin_connection(self.settings, self.settings.database) as connection:
            yield connection

    def set_stock(self, quantities: Mapping[str, int]) -> None:
        """Put so much of each SKU on hand, none of it reserved."""
        with self.administer() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO inventory.stock VALUES (:sku, :quantity, :quantity) ON CONFLICT (sku)"
                    " DO UPDATE SET on_hand = excluded.on_hand, available = excluded.available"
                ),
                [{"sku": sku, "quantity": quantity} for sku, quantity in quantities.items()],
            )

    def available(self) -> dict[str, int]:
        """Return what is left of each SKU."""
        with self.administer() as connection:
            rows = connection.execute(sa.text("SELECT sku, available FROM inventory.stock"))
            return {row.sku: row.available for row in rows}

    def env(self, role: str, *, slot: int = 0) -> dict[str, str]:
        """Return the environment of a service process; each call has ports of its own."""
        return {
            "PIPELINE_NAMESPACE": self.settings.namespace,
            "PIPELINE_KAFKA_BOOTSTRAP": self.settings.kafka_bootstrap,
            "PIPELINE_REGISTRY_URL": self.settings.registry_url,
            "PIPELINE_POSTGRES_URL": self._url(role),
            "PIPELINE_POSTGRES_PASSWORD_FILE": str(self._password_file(role)),
            "PIPELINE_SLOT": str(slot),
            "PIPELINE_HEALTH_PORT": str(self.processes.free_port()),
            "PIPELINE_HTTP_PORT": str(self.processes.free_port()),
            "PIPELINE_HTTP_METRICS_DIR": str(self.processes.scratch()),
        }

    def start(
        self, module: str, *arguments: str, role: str, slot: int = 0, env: Mapping[str, str] | None = None
    ) -> Process:
        """Start `python -m module arguments` as a service of this pipeline; `env` adds to its environment."""
        return self.processes.start(module, *arguments, env={**self.env(role, slot=slot), **(env or {})})

    def _url(self, role: str) -> str:
        at = sa.make_url(self.settings.postgres_admin_url)
        return f"postgresql://{role}@{at.host}:{at.port or 5432}/{self.settings.database}"

    def _password_file(self, role: str) -> Path:
        return self.settings.role_secrets_dir / role


def _resized(topic: Topic, partitions: int | None) -> Topic:
    return replace(topic, partitions=partitions) if partitions and topic.partitions > 1 else topic


def _delete(admin: Admin, topics: tuple[Topic, ...]) -> None:
    with suppress(ReportedError):  # a test may have stopped the broker for good
        admin.delete_topics(topics)
    with suppress(ReportedError):  # a killed static member stays in its group until the session ends
        admin.delete_groups(list(dict.fromkeys(group for topic in topics for group in topic.readers)))


def _drop(settings: ProvisionSettings, name: str) -> None:
    with database.admin_connection(settings, "postgres") as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
