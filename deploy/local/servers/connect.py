"""Kafka Connect in a local stack: one worker, distributed mode, from the broker's own jars.

What it knows of its connectors stands in Kafka, so that a killed worker goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from common.config import Settings, load
from common.topics import CONNECT
from deploy.local.fetch import connect_plugins
from deploy.local.fetch.jars import Jars
from deploy.local.home import Home, read_secret, write_atomically
from deploy.local.servers import connect_status, jmx
from deploy.local.servers.addresses import Addresses
from deploy.local.servers.java import ENVIRONMENT, OPTIONS, java, unpacking_into
from deploy.local.servers.part import Stage
from deploy.local.servers.properties import escaped
from deploy.local.supervise.launch import Launch, Program
from deploy.local.supervise.loopback import LOOPBACK, get

PORT = "connect"
ROLE = "connect_rw"
MONGO = "mongo_uri"
"""A file of the user's among the stack's secrets: where a MongoDB is, with its password."""
HEAP = ("-Xms64m", "-Xmx384m", "-XX:TieredStopAtLevel=1")
"""A few hundred rows a second: starting fast counts, peak speed does not."""

_SETTINGS = """\
bootstrap.servers={kafka}
listeners=http://{host}:{port}
rest.advertised.host.name={host}
# The group of workers, and what it keeps in Kafka: connectors, source offsets, states.
group.id={group}
config.storage.topic={group}.configs
offset.storage.topic={group}.offsets
status.storage.topic={group}.status
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
offset.storage.partitions=1
status.storage.partitions=1
# A killed worker is started again within a second: its tasks need not wait five minutes for it.
scheduled.rebalance.max.delay.ms=0
session.timeout.ms=6000
heartbeat.interval.ms=2000
consumer.session.timeout.ms=6000
consumer.heartbeat.interval.ms=2000
# What an aborted transaction wrote never was.
consumer.isolation.level=read_committed
consumer.auto.offset.reset=earliest
# A connector names its own group and options.
connector.client.config.override.policy=All
offset.flush.interval.ms={flush_ms}
# Each connector says how it reads; who forgets to gets bytes.
key.converter=org.apache.kafka.connect.converters.ByteArrayConverter
value.converter=org.apache.kafka.connect.converters.ByteArrayConverter
plugin.path={plugins}
# Manifests instead of looking through every class.
plugin.discovery=service_load
# Passwords stand in a file of the worker's: a configuration only points there, over REST too.
config.providers=file
config.providers.file.class=org.apache.kafka.common.config.provider.FileConfigProvider
config.providers.file.param.allowed.paths={secrets}
"""


@dataclass(frozen=True, slots=True)
class ConnectPart:
    """A part of the stack; see `Part`."""

    name: str = "connect"
    stage: Stage = Stage.SERVER
    jar_sets: tuple[str, ...] = connect_plugins.SETS
    ports: tuple[str, ...] = (PORT,)

    def check_machine(self) -> None:
        """Need nothing but jars."""

    def programs(self, addresses: Addresses, cache: Jars, ports: Mapping[str, int]) -> Sequence[Program]:
        """Return the worker."""
        namespace = load(Settings).namespace
        agent = jmx.agent(self.name, cache, ports)
        return (Connect(addresses.home, cache, addresses.kafka_bootstrap, ports[PORT], namespace, java_options=agent),)

    def java_options(self, _program: str, _cache: Jars, _ports: Mapping[str, int]) -> tuple[str, ...]:
        """Add nothing."""
        return ()

    def provision_environment(self, home: Home, ports: Mapping[str, int]) -> Mapping[str, str]:
        """Say where the connectors are to be put, and where the worker has its passwords."""
        return {
            "PIPELINE_CONNECT_URL": _url(ports[PORT]),
            "PIPELINE_CONNECT_CREDENTIALS": str(_credentials(home)),
        }

    def lines(self, ports: Mapping[str, int]) -> Sequence[str]:
        """Say how each connector stands."""
        answer = get(ports[PORT], connect_status.PATH)
        if answer is None:
            return ("connect does not answer now: look again, or: pipeline logs connect",)
        return tuple(connect_status.lines(connect_status.parse(answer), _url(ports[PORT])))


@dataclass(frozen=True, slots=True)
class Connect:
    """Starts the worker, and lays out its plugins the first time. The broker must be ready."""

    home: Home
    cache: Jars
    kafka_bootstrap: str
    port: int
    namespace: str = ""
    flush_ms: int = 5000
    """How often offsets are committed: what lies between is put again after a kill."""
    java_options: tuple[str, ...] = ()
    """Further options of the JVM: an agent."""
    name: str = "connect"
    slot: int | None = None

    def prepare(self) -> Iterator[Launch]:
        """Write settings and passwords; lay out the plugins unless that was done."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(_credentials(self.home), "".join(_passwords(self.home)))
        write_atomically(
            self._settings,
            _SETTINGS.format(
                kafka=self.kafka_bootstrap,
                host=LOOPBACK,
                port=self.port,
                group=CONNECT.within(self.namespace),
                plugins=escaped(connect_plugins.lay_out(self.cache)),
                secrets=escaped(self._folder),
                flush_ms=self.flush_ms,
            ),
        )
        yield from ()

    def launch(self) -> Launch:
        """Start it."""
        with resources.as_file(resources.files(__package__) / "log4j2.properties") as logging:
            scratch = unpacking_into(self.home.scratch(self.name))
            options = (*OPTIONS, *HEAP, *self.java_options, f"-Dlog4j2.configurationFile={logging.as_uri()}", *scratch)
        return Launch(
            argv=(java(), *options, "org.apache.kafka.connect.cli.ConnectDistributed", str(self._settings)),
            log=self.home.log(self.name),
            environment={**ENVIRONMENT, "CLASSPATH": self.cache.class_path},
        )

    def ready(self) -> bool:
        """Ask whether it has joined its group and read what stands in Kafka."""
        return get(self.port, "/health") is not None

    @property
    def _folder(self) -> Path:
        return self.home.data(self.name)

    @property
    def _settings(self) -> Path:
        return self._folder / "worker.properties"


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _credentials(home: Home) -> Path:
    return home.data("connect") / "credentials.properties"


def _passwords(home: Home) -> Iterator[str]:
    """Yield the lines from which the sinks' configurations take what must not stand in them."""
    yield f"{ROLE}={escaped(read_secret(home.role_secrets / ROLE))}\n"
    if (mongo := home.secrets / MONGO).exists():
        yield f"{MONGO}={escaped(read_secret(mongo))}\n"
