"""A PostgreSQL primary and its synchronous standby, started for one test: to be cut apart, promoted, left behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from common.config import PostgresSettings
from deploy.local import home as homes
from deploy.local.home import Home, read_secret
from deploy.local.servers.postgres import SUPERUSER, Postgres
from deploy.local.stack.ports import Claims
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.process import Child, stop_all
from deploy.local.supervise.runner import Runner, tick_until_settled
from deploy.provision import database, roles
from deploy.provision.config import ProvisionSettings
from tests.forwarder import Forwarder
from tests.ports import free_port

DATABASE = "replicated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby(Postgres):
    """A copy of another server, made the first time it starts."""

    source_port: int

    def prepare(self) -> Iterator[Launch]:
        """Copy the source, with the settings that make the copy follow it."""
        with self._empty_folder(self._data):
            copy = self._launch(
                "pg_basebackup",
                *("--host=127.0.0.1", f"--port={self.source_port}", f"--username={SUPERUSER}"),
                *(f"--pgdata={self._data}", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            )
            yield replace(copy, environment={"PGPASSWORD": read_secret(self.home.superuser_secret)})


class Pair:
    """A primary that waits for its standby at every commit; `replication` is the way between them."""

    def __init__(self, home: Home, claims: Claims, guardian: Guardian) -> None:
        first, second = (free_port(claims) for _ in range(2))
        self.primary = Postgres(home, first)
        self.replication = Forwarder("127.0.0.1", first)
        self.standby = Standby(home, second, "standby", source_port=self.replication.port)
        self._home = home
        self._runners = {server.name: Runner(server, home, guardian) for server in (self.primary, self.standby)}

    def start(self) -> None:
        """Start and provision the primary, then copy it; from then on commits wait for the copy."""
        tick_until_settled([self._runners[self.primary.name]])
        settings = self.settings
        with database.administration(settings) as connection:
            roles.ensure_roles(connection, roles.read_passwords(self._home.role_secrets))
            database.ensure_database(connection, DATABASE)
        with database.admin_connection(settings, DATABASE) as connection:
            database.migrate(connection)
        tick_until_settled([self._runners[self.standby.name]])
        with self.primary.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")

    @property
    def settings(self) -> ProvisionSettings:
        """Return the settings of the primary."""
        return ProvisionSettings(
            kafka_bootstrap="127.0.0.1:1",
            registry_url="http://127.0.0.1:1",
            postgres_admin_url=self.primary.url(SUPERUSER, "postgres"),
            postgres_admin_password=SecretStr(read_secret(self._home.superuser_secret)),
            role_secrets_dir=self._home.role_secrets,
            database=DATABASE,
        )

    def postgres(self, role: str, *servers: Postgres) -> PostgresSettings:
        """Return the settings of a role that may use any of these servers, in this order."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        return PostgresSettings(
            postgres_url=f"postgresql://{role}@{hosts}/{DATABASE}",
            postgres_password=SecretStr(read_secret(self._home.role_secrets / role)),
        )

    def promote(self) -> None:
        """Let the standby forget its source and take writes."""
        with self.standby.connect() as connection:
            connection.execute("SELECT pg_promote()")

    def kill_primary(self) -> None:
        self._child(self.primary).kill()

    def stop(self) -> None:
        self.replication.close()
        stop_all([child for runner in self._runners.values() if (child := runner.halt())], grace_seconds=2)

    def _child(self, server: Postgres) -> Child:
        child = self._runners[server.name].child
        assert child is not None
        return child


@contextmanager
def open_pair(folder: Path) -> Iterator[Pair]:
    """Start both servers; they and their data are gone at the end."""
    home = homes.at(folder)
    homes.create(home)
    with Claims() as claims:
        guardian = Guardian()
        pair = Pair(home, claims, guardian)
        try:
            pair.start()
            yield pair
        finally:
            pair.stop()
            guardian.close()
