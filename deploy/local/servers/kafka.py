"""The broker of a local stack."""

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.local.home import Home
from deploy.local.servers.kafka_controller import KafkaController
from deploy.local.servers.kafka_node import BROKER_ID, SESSION_SECONDS, KafkaNode
from deploy.local.supervise.diagnosis import StartError
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.loopback import LOOPBACK, answers

HEAP = ("-Xms64m", "-Xmx256m")
"""All of it is taken within half an hour, idle or not: the serial collector looks at what has lived for a while only
when the heap is full. With twice as much no load was measured to be faster."""
_CLEAN_STOP = ".kafka_cleanshutdown"
"""What a broker leaves in its data when it ends in order, and removes when it starts."""
_PROBE_SECONDS = 1.0
_GROUPS = ("a", "b", "c")
"""One per partition of __consumer_offsets: a group lies on the partition hash code modulo three, here 97 to 99."""

_SETTINGS = """\
process.roles=broker
listeners=PLAINTEXT://{host}:{port}
advertised.listeners=PLAINTEXT://{host}:{port}
# Topics come from the one table, by provisioning.
auto.create.topics.enable=false
# One broker: without the first three no transaction starts.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Longer than any topic keeps its records: a group whose offsets were forgotten would start from the beginning.
offsets.retention.minutes=129600
# Each partition costs files and start-up time; one shop's groups and slots need few.
offsets.topic.num.partitions=3
# A load of the groups' offsets reads all that was not compacted yet: with the default, 100 MB, for seconds. It must be
# over before a second one begins, as when a live broker is declared dead, or old offsets are answered
# (docs/adr/0031).
offsets.topic.segment.bytes=1048576
transaction.state.log.num.partitions=3
# Heads that DeleteRecords took come back when the broker is killed before it has noted where each log begins. By
# default it does so every minute, from half a minute after its start.
log.flush.start.offset.checkpoint.interval.ms=1000
log.initial.task.delay.ms=1000
# Take-over within seconds: short sessions are allowed, a dead producer's transaction is aborted soon after its time.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
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
    controller: KafkaController
    java_options: tuple[str, ...] = ()
    """Further options of its JVM: an agent."""
    name: str = "kafka"
    slot: int | None = None
    number: int = BROKER_ID

    @property
    def node(self) -> KafkaNode:
        """Its part in the cluster."""
        return KafkaNode(self.home, self.name, self.number, self.class_path, self.controller.port)

    @property
    def bootstrap(self) -> str:
        """Where clients connect."""
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> Iterator[Launch]:
        """Write the settings; join the controller's cluster the first time. The controller must be ready.

        Raises StartError when the data belong to another cluster.

        A broker that was killed is not started again before its former self is declared dead: Kafka may lose the
        markers of transactions that end while the new one counts as the old one (docs/adr/0036).
        """
        cluster, former = self.controller.node.cluster_id(), self.node.cluster_id()
        if cluster is None:
            raise RuntimeError("the controller was never started")
        if former not in {None, cluster}:
            raise StartError(
                f"the data in {self.node.data} are of another cluster than those in {self.controller.node.data}",
                cure="go on with the checkout that wrote them, or start an empty stack elsewhere: --home DIR",
            )
        was_killed = former is not None and not (self.node.data / _CLEAN_STOP).exists()
        yield from self.node.prepare(_SETTINGS.format(host=LOOPBACK, port=self.port), cluster_id=cluster)
        if was_killed:
            yield Launch(argv=("sleep", str(SESSION_SECONDS)), log=self.home.log(self.name))

    def launch(self) -> Launch:
        """Start it."""
        return self.node.launch(*HEAP, *self.java_options)

    def ready(self) -> bool:
        """Ask what only a broker can answer that knows its cluster and coordinates groups."""
        return serves(self.port)


def serves(port: int) -> bool:
    """Return whether the broker at this port of the machine knows its cluster and coordinates groups."""
    # The port first: librdkafka would log each refused connection, and wait longer after each.
    return answers(port) and all(_coordinates(f"{LOOPBACK}:{port}", group) for group in _GROUPS)


def _coordinates(bootstrap: str, group: str) -> bool:
    """Ask for a group's offsets, and so let the broker make or load what it keeps them in.

    The next client meets a coordinator that is there and does not wait for it.
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
