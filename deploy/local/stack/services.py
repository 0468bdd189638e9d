"""The services as programs of a local stack: their processes, ports and environment."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from deploy.local.servers.addresses import Addresses
from deploy.local.stack.ports import HEALTH
from deploy.local.supervise.launch import Launch, label
from deploy.local.supervise.loopback import LOOPBACK, get
from services.row import Service

HTTP = "api"
"""The name of the port for clients; that of the API's probes is another, as the workers'."""
PROVISION = (sys.executable, "-m", "deploy.cli.main", "provision")


_PYTHON = {
    "PYTHONUNBUFFERED": "1",  # a log that ends in the middle of a line says nothing
    "PYTHONIOENCODING": "utf-8",  # `pipeline logs` reads it so, whatever the shell's encoding is
    "PYTHONFAULTHANDLER": "1",  # a crash in a C library leaves its stack in the log
}


@dataclass(frozen=True, slots=True)
class ServiceProgram:
    """One process of a service. It serves once its /readyz answers 200."""

    service: Service
    slot: int | None
    addresses: Addresses
    port: int
    """Of its health."""
    http_port: int | None = None
    """For clients, if it serves any."""

    @property
    def name(self) -> str:
        """The service's name."""
        return self.service.name

    def prepare(self) -> Iterator[Launch]:
        """Need nothing: provisioning came before."""
        yield from ()

    def launch(self) -> Launch:
        """Start it."""
        environment = {**_PYTHON, **self.service.variables, **service_environment(self.addresses, self.service.role)}
        environment["PIPELINE_HEALTH_PORT"] = str(self.port)
        if self.http_port is not None:
            environment |= {"PIPELINE_HTTP_HOST": LOOPBACK, "PIPELINE_HTTP_PORT": str(self.http_port)}
            environment["PIPELINE_HTTP_METRICS_DIR"] = str(self.addresses.home.scratch("metrics"))
        if self.slot is not None:
            environment["PIPELINE_SLOT"] = str(self.slot)
        if self.service.folder is not None:
            further = os.environ.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(self.service.folder), further)))
        return Launch(argv=self.service.argv, log=self.addresses.home.log(label(self)), environment=environment)

    def ready(self) -> bool:
        """Ask it."""
        return get(self.port, "/readyz") is not None


@dataclass(frozen=True, slots=True)
class Provision:
    """The command that makes roles, tables, topics, schemas and stock; nothing keeps running."""

    addresses: Addresses
    argv: tuple[str, ...] = PROVISION
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beyond what it always needs to know: where optional parts are."""
    name: str = "provision"
    slot: int | None = None

    def prepare(self) -> Iterator[Launch]:
        """Run it."""
        environment = {**_PYTHON, **provision_environment(self.addresses), **self.environment}
        yield Launch(argv=self.argv, log=self.addresses.home.log(self.name), environment=environment)

    def launch(self) -> Launch | None:
        """Have nothing to keep running."""
        return None

    def ready(self) -> bool:
        """Never be asked."""
        return True


def port_name(service: Service, slot: int | None) -> str:
    """Return the name under which a process of the service has its health port."""
    return f"{HEALTH}.{service.name}" if slot is None else f"{HEALTH}.{service.name}-{slot}"


def processes(services: Iterable[Service]) -> tuple[tuple[Service, int | None], ...]:
    """Return service and slot of every process, in starting order."""
    return tuple(
        (service, slot) for service in services for slot in ((None,) if service.slots is None else range(service.slots))
    )


def programs(services: Iterable[Service], addresses: Addresses, ports: Mapping[str, int]) -> tuple[ServiceProgram, ...]:
    """Return a program per process of the table."""
    return tuple(
        ServiceProgram(
            service,
            slot,
            addresses,
            port=ports[port_name(service, slot)],
            http_port=ports[HTTP] if service.http else None,
        )
        for service, slot in processes(services)
    )


def service_environment(addresses: Addresses, role: str | None) -> dict[str, str]:
    """Return what every client of the stack needs to know, acting as a database role if it has one."""
    environment = {
        "PIPELINE_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
        "PIPELINE_REGISTRY_URL": addresses.registry_url,
        "PIPELINE_SCHEMA_CACHE_DIR": str(addresses.home.schemas),
    }
    if role is not None:
        environment |= {
            "PIPELINE_POSTGRES_URL": addresses.postgres_url(role),
            "PIPELINE_POSTGRES_PASSWORD_FILE": str(addresses.role_secrets_folder / role),
        }
    return environment


def provision_environment(addresses: Addresses) -> dict[str, str]:
    """Return what provisioning needs to know."""
    return {
        "PIPELINE_KAFKA_BOOTSTRAP": addresses.kafka_bootstrap,
        "PIPELINE_REGISTRY_URL": addresses.registry_url,
        "PIPELINE_POSTGRES_ADMIN_URL": addresses.postgres_admin_url,
        "PIPELINE_POSTGRES_ADMIN_PASSWORD_FILE": str(addresses.postgres_admin_password_file),
        "PIPELINE_ROLE_SECRETS_DIR": str(addresses.role_secrets_folder),
    }
