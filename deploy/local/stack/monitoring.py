"""What watches the stack from outside: a Prometheus over all of it, the exporter, and Kafka's figures by JMX."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploy.local.fetch.jars import Jars
from deploy.local.home import Home
from deploy.local.servers import jmx, prometheus
from deploy.local.servers.addresses import Addresses
from deploy.local.servers.part import Stage
from deploy.local.servers.prometheus import PROMETHEUS, Prometheus, Target
from deploy.local.stack.ports import HEALTH
from deploy.local.stack.services import ServiceProgram
from deploy.local.supervise.launch import Program
from services.table import EXPORTER


@dataclass(frozen=True, slots=True)
class MonitoringPart:
    """A part of the stack; see `Part`."""

    name: str = "monitoring"
    stage: Stage = Stage.SERVICE
    jar_sets: tuple[str, ...] = (jmx.JARS,)
    ports: tuple[str, ...] = (PROMETHEUS, EXPORTER.name, *jmx.PORTS)

    def check_machine(self) -> None:
        """Need Prometheus."""
        prometheus.program()

    def programs(self, addresses: Addresses, _cache: Jars, ports: Mapping[str, int]) -> Sequence[Program]:
        """Return the exporter, and the Prometheus that scrapes it and all others."""
        return (
            ServiceProgram(EXPORTER, None, addresses, ports[EXPORTER.name]),
            Prometheus(addresses.home, ports[PROMETHEUS], tuple(targets(ports))),
        )

    def java_options(self, program: str, cache: Jars, ports: Mapping[str, int]) -> tuple[str, ...]:
        """Add the agent that shows the beans of controller and broker."""
        return jmx.agent(program, cache, ports)

    def provision_environment(self, _home: Home, _ports: Mapping[str, int]) -> Mapping[str, str]:
        """Need nothing provisioned."""
        return {}

    def lines(self, ports: Mapping[str, int]) -> Sequence[str]:
        """Say where Prometheus is, and which of its targets do not answer."""
        return (prometheus.status_line(ports[PROMETHEUS]),)


def targets(ports: Mapping[str, int]) -> Iterator[Target]:
    """Return what has a page of metrics, by the names of the ports."""
    for name, port in ports.items():
        kind, _, process = name.partition(".")
        match kind:
            case _ if (program := jmx.carrier(name)) is not None:
                if program in ports:
                    yield Target(program, program, port)
            case "exporter":
                yield Target("exporter", "exporter", port)
            case "registry_management":
                yield Target("registry", "registry", port)
            case _ if kind == HEALTH:
                service, _, slot = process.rpartition("-")
                yield Target(service if slot.isdecimal() else process, process, port)
            case _:
                pass
