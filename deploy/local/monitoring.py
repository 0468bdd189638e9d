"""What watches the stack from outside: the broker's figures over JMX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.addresses import Addresses
from deploy.local.jars import Jars
from deploy.local.launch import Program
from deploy.local.part import Stage

JARS = "monitoring"


@dataclass(frozen=True, slots=True)
class MonitoringPart:
    """A part of the stack; see `Part`."""

    name: str = "monitoring"
    stage: Stage = Stage.SERVICE
    jar_sets: tuple[str, ...] = (JARS,)
    ports: tuple[str, ...] = ()

    def programs(self, _addresses: Addresses, _cache: Jars, _ports: Mapping[str, int]) -> Sequence[Program]:
        """Have none yet."""
        return ()

    def broker_options(self, _cache: Jars, _ports: Mapping[str, int]) -> tuple[str, ...]:
        """Add nothing yet."""
        return ()

    def provision_environment(self, _ports: Mapping[str, int]) -> Mapping[str, str]:
        """Need nothing provisioned."""
        return {}

    def lines(self, _ports: Mapping[str, int]) -> Sequence[str]:
        """Say nothing yet."""
        return ()


def agent(cache: Jars) -> Path:
    """Return the jar of the agent that shows a JVM's figures to Prometheus."""
    return cache.paths(JARS)[0]
