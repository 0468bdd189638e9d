"""Where the servers of one stack are, and whose passwords open them."""

from dataclasses import dataclass
from pathlib import Path

from deploy.local.home import Home, read_secret
from deploy.local.servers.kafka import Kafka
from deploy.local.servers.kafka_controller import KafkaController
from deploy.local.servers.postgres import SUPERUSER, Postgres
from deploy.local.servers.registry import Registry

DATABASE = "pipeline"
"""The pipeline's own, as its services know it by default."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers are, and whose passwords open them."""

    home: Home
    controller: KafkaController
    kafka: Kafka
    postgres: Postgres
    registry: Registry

    @property
    def kafka_bootstrap(self) -> str:
        """host:port of the broker."""
        return self.kafka.bootstrap

    @property
    def registry_url(self) -> str:
        """Base URL of the registry, Confluent's dialect."""
        return self.registry.url

    @property
    def postgres_admin_url(self) -> str:
        """The superuser's URL, without the password."""
        return self.postgres.url(SUPERUSER, "postgres")

    @property
    def postgres_admin_password_file(self) -> Path:
        """The file that holds the superuser's password."""
        return self.home.superuser_secret

    @property
    def role_secrets_folder(self) -> Path:
        """The folder with one password file per role of the pipeline."""
        return self.home.role_secrets

    def postgres_url(self, role: str, *, database: str = DATABASE) -> str:
        """Return a role's URL, without the password."""
        return self.postgres.url(role, database)

    def postgres_dsn(self, role: str = SUPERUSER, *, database: str = DATABASE) -> str:
        """Return a URL with the password in it: for a test's own connection, not for a command line."""
        file = self.home.superuser_secret if role == SUPERUSER else self.home.role_secrets / role
        return self.postgres.url(role, database).replace("@", f":{read_secret(file)}@", 1)
