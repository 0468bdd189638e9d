"""The broker of a local stack: one KRaft node that is broker and controller."""

import base64
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from deploy.local.home import Home, write_atomically
from deploy.local.java import OPTIONS, SHORT_LIVED, java, unpacking_into
from deploy.local.launch import Launch
from deploy.local.loopback import LOOPBACK, answers

HEAP = ("-Xms64m", "-Xmx512m")
_PROBE_SECONDS = 1.0
_GROUPS = ("a", "b", "c")
"""One per partition of __consumer_offsets: a group lies on the partition hash code modulo three, here 97 to 99."""

_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# Topics come from the one table, by provisioning.
auto.create.topics.enable=false
# One node: without the first three no transaction starts.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Longer than any topic keeps its records: a group whose offsets were forgotten would begin anew.
offsets.retention.minutes=129600
# Each partition costs files and start-up time; one shop's groups and slots need few.
offsets.topic.num.partitions=3
# A load of the groups' offsets reads all that was not compacted yet: with the default, 100 MB, for seconds. It must be
# over before a second one begins, as it does after every SIGKILL, or old offsets are answered (docs/adr/0031).
offsets.topic.segment.bytes=1048576
transaction.state.log.num.partitions=3
# Take-over within seconds: short sessions are allowed, a dead producer's transaction is aborted soon after its time.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
# A restart need not wait for rivals in an election of one.
controller.quorum.election.timeout.ms=200
controller.quorum.fetch.timeout.ms=500
controller.quorum.election.backoff.max.ms=100
# Nor until its former self, killed without a farewell, is declared dead: by default that takes 9 s, in which it still
# counts as the leader and Kafka may give up the markers of transactions that it ends (docs/adr/0031).
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
# The default, 128 MB, is for millions of keys.
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
"""


@dataclass(frozen=True, slots=True)
class Kafka:
    """Starts the broker, and formats its data folder the first time."""

    home: Home
    class_path: str
    port: int
    controller_port: int
    java_options: tuple[str, ...] = ()
    """Further options of the broker's JVM: an agent."""
    name: str = "kafka"
    slot: int | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> Iterator[Launch]:
        """Write the settings; format the data folder unless that was done.

        The quorum is named in the settings, not by `--standalone` in the data, so that the ports may change.
        """
        data = self.home.data(self.name)
        text = _SETTINGS.format(host=LOOPBACK, port=self.port, controller_port=self.controller_port, data=data)
        write_atomically(self._settings, text)
        if not (data / "meta.properties").exists():
            tool = ("kafka.tools.StorageTool", "format", "--config", str(self._settings))
            yield self._java(*SHORT_LIVED, *tool, "--cluster-id", cluster_id(uuid.uuid4().bytes))

    def launch(self) -> Launch:
        """Start the broker."""
        return self._java(*OPTIONS, *HEAP, *self.java_options, "kafka.Kafka", str(self._settings))

    def ready(self) -> bool:
        """Ask what only a broker can answer that knows its cluster and coordinates groups."""
        return serves(self.port)

    @property
    def _settings(self) -> Path:
        return self.home.root / "kafka.properties"

    def _java(self, *arguments: str) -> Launch:
        with resources.as_file(resources.files(__package__) / "log4j2.properties") as logging:
            options = (f"-Dlog4j2.configurationFile={logging}", *unpacking_into(self.home.scratch(self.name)))
        # The class path travels in the environment: 92 paths would bury the command in every `ps`.
        environment = {"CLASSPATH": self.class_path}
        return Launch(argv=(java(), *options, *arguments), log=self.home.log(self.name), environment=environment)


def serves(port: int) -> bool:
    """Tell whether the broker at this port of the machine knows its cluster and coordinates groups."""
    # The port first: librdkafka would log each refused connection, and wait longer after each.
    return answers(port) and all(_coordinates(f"{LOOPBACK}:{port}", group) for group in _GROUPS)


def _coordinates(bootstrap: str, group: str) -> bool:
    """Ask for a group's offsets, and so let the broker make or load what it keeps them in.

    Whoever comes next meets a coordinator that is there and does not wait for it.
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        consumer.committed([TopicPartition("__consumer_offsets", 0)], timeout=_PROBE_SECONDS)
    except KafkaException:
        return False
    finally:
        consumer.close()
    return True


def cluster_id(random: bytes) -> str:
    """Return 16 random bytes as Kafka writes an id; never with a leading dash, which its tool takes for an option."""
    first = random[0] & 0b0111_1111  # the alphabet's first half: letters
    return base64.urlsafe_b64encode(bytes([first]) + random[1:]).decode().rstrip("=")
