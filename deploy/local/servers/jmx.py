"""Show the beans of a JVM to Prometheus by its agent, where monitoring is part of the stack."""

from collections.abc import Mapping
from importlib import resources

from deploy.local.fetch.jars import Jars
from deploy.local.supervise.loopback import LOOPBACK

JARS = "monitoring"
"""The set of `jars.lock` with the agent."""
_RULES = {"controller": "jmx-kafka.yml", "kafka": "jmx-kafka.yml", "connect": "jmx-connect.yml"}
"""By the program that carries the agent."""
_ENDING = "_jmx"
PORTS = tuple(f"{program}{_ENDING}" for program in _RULES)
"""The names of the ports at which the agents answer."""


def carrier(port_name: str) -> str | None:
    """Return the program whose agent answers at that port; None for any other port."""
    return port_name.removesuffix(_ENDING) if port_name in PORTS else None


def agent(program: str, cache: Jars, ports: Mapping[str, int]) -> tuple[str, ...]:
    """Return the option that puts the agent into a program's JVM, to answer at its port; nothing without monitoring."""
    name = f"{program}{_ENDING}"
    if name not in ports:
        return ()
    (jar,) = cache.paths(JARS)
    with resources.as_file(resources.files("deploy") / "prometheus" / _RULES[program]) as rules:
        return (f"-javaagent:{jar}={LOOPBACK}:{ports[name]}:{rules}",)
