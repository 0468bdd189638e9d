"""What an optional part of the local stack is: what it fetches, which ports it takes, which processes it adds.

The supervisor does the rest: it starts, watches, restarts and stops the programs of a part as it does its own.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Protocol

from deploy.local.fetch.jars import Jars
from deploy.local.home import Home
from deploy.local.servers.addresses import Addresses
from deploy.local.supervise.launch import Program


class Stage(Enum):
    """When a part's programs start."""

    SERVER = auto()
    """With the servers ready, and provisioning waits for them."""
    SERVICE = auto()
    """After provisioning, with the services."""


class Part(Protocol):
    """One optional part, a row of `deploy.local.stack.parts`."""

    @property
    def name(self) -> str:
        """What stands behind `--with`."""

    @property
    def stage(self) -> Stage:
        """When its programs start."""

    @property
    def jar_sets(self) -> tuple[str, ...]:
        """The sets of `jars.lock` that it runs."""

    @property
    def ports(self) -> tuple[str, ...]:
        """The names of its ports in `ports.toml`. A program called like a port is shown with it."""

    def check_machine(self) -> None:
        """Raise `ReportedError` when this machine lacks something that cannot be fetched; before anything starts."""

    def programs(self, addresses: Addresses, cache: Jars, ports: Mapping[str, int]) -> Sequence[Program]:
        """Return its processes, each with what must precede it and how to see that it serves."""

    def java_options(self, program: str, cache: Jars, ports: Mapping[str, int]) -> tuple[str, ...]:
        """Return what it adds to the JVM of Kafka's controller or broker: an agent. Nothing, as a rule."""

    def provision_environment(self, home: Home, ports: Mapping[str, int]) -> Mapping[str, str]:
        """Return the settings by which provisioning finds it."""

    def lines(self, ports: Mapping[str, int]) -> Sequence[str]:
        """Return what `pipeline status` says about it below the table; ask within two seconds, raise nothing."""
