"""Show the beans of a JVM to Prometheus by its agent, where monitoring is part of the stack."""

from collections.abc import Mapping
from importlib import resources

from deploy.local.jars import Jars
from deploy.local.loopback import LOOPBACK

JARS = "monitoring"
"""The set of `jars.lock` with the agent."""
CONTROLLER, KAFKA, CONNECT = "controller_jmx", "kafka_jmx", "connect_jmx"
"""The names of the ports at which the agents answer, after the programs that carry them."""
_RULES = {CONTROLLER: "jmx-kafka.yml", KAFKA: "jmx-kafka.yml", CONNECT: "jmx-connect.yml"}


def agent(program: str, cache: Jars, ports: Mapping[str, int]) -> tuple[str, ...]:
    """Return the option that puts the agent into a program's JVM, to answer at its port; nothing if nobody looks."""
    name = f"{program}_jmx"
    if name not in ports:
        return ()
    (jar,) = cache.paths(JARS)
    with resources.as_file(resources.files("deploy") / "prometheus" / _RULES[name]) as rules:
        return (f"-javaagent:{jar}={LOOPBACK}:{ports[name]}:{rules}",)
