"""The schema registry of a local stack: Apicurio, stored in the stack's PostgreSQL, in a database of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.local.home import Home, read_secret
from deploy.local.servers.java import ENVIRONMENT, OPTIONS, java, unpacking_into
from deploy.local.servers.postgres import Postgres
from deploy.local.supervise.diagnosis import StartError
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.loopback import LOOPBACK, get
from deploy.provision.registry_database import DATABASE, ROLE, make_registry_database

HEAP = ("-Xms64m", "-Xmx192m", "-XX:TieredStopAtLevel=1")
"""A few look-ups per service start: starting fast counts, peak speed does not."""
API = "/apis/ccompat/v7"
"""Confluent's dialect of the registry's API."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Starts the registry; its database and role are made or brought up to date before."""

    home: Home
    folder: Path
    postgres: Postgres
    port: int
    management_port: int
    name: str = "registry"
    slot: int | None = None

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://{LOOPBACK}:{self.port}{API}"

    def prepare(self) -> Iterator[Launch]:
        """Make role and database. PostgreSQL must be ready."""
        import psycopg

        try:
            with self.postgres.connect() as connection:
                make_registry_database(connection, read_secret(self.home.registry_secret))
        except psycopg.Error as error:
            raise StartError(
                f"the registry's database cannot be made: {error}", cure="see the log of postgres"
            ) from error
        yield from ()

    def launch(self) -> Launch:
        """Start it."""
        environment = {
            **ENVIRONMENT,
            "APICURIO_STORAGE_KIND": "sql",  # the default storage forgets
            "APICURIO_STORAGE_SQL_KIND": "postgresql",
            "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{LOOPBACK}:{self.postgres.port}/{DATABASE}",
            "APICURIO_DATASOURCE_USERNAME": ROLE,
            "APICURIO_DATASOURCE_PASSWORD": read_secret(self.home.registry_secret),
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",  # the default takes 20 of PostgreSQL's connections
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
            "QUARKUS_HTTP_HOST": LOOPBACK,
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": LOOPBACK,  # else health and metrics listen on all interfaces
            "QUARKUS_MANAGEMENT_PORT": str(self.management_port),
            "QUARKUS_LOG_LEVEL": "WARN",  # else a line per request
        }
        scratch = unpacking_into(self.home.scratch(self.name))
        argv = (java(), *OPTIONS, *HEAP, *scratch, "-jar", str(self.folder / "quarkus-run.jar"))
        return Launch(argv=argv, log=self.home.log(self.name), environment=environment)

    def ready(self) -> bool:
        """Ask for the subjects."""
        return get(self.port, f"{API}/subjects") is not None
