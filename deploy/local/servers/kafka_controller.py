"""The controller of a local stack: it keeps the cluster's metadata, and notices when the broker is gone.

A process of its own, which outlives the broker: else a broker that was killed comes back into the session of its former
self, and Kafka may lose the markers of transactions that end meanwhile (docs/adr/0036).
"""

import base64
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from deploy.local.home import Home
from deploy.local.servers.kafka_node import CONTROLLER_ID, KafkaNode
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.loopback import LOOPBACK, answers

HEAP = ("-Xms32m", "-Xmx64m", "-XX:TieredStopAtLevel=1")
"""A sign of life twice a second: starting fast counts, peak speed does not."""

_SETTINGS = """\
process.roles=controller
listeners=CONTROLLER://{host}:{port}
# A start need not wait for rivals in an election of one.
controller.quorum.election.timeout.ms=200
controller.quorum.fetch.timeout.ms=500
controller.quorum.election.backoff.max.ms=100
"""


@dataclass(frozen=True, slots=True)
class KafkaController:
    """Starts the controller, and formats its data folder the first time."""

    home: Home
    class_path: str
    port: int
    java_options: tuple[str, ...] = ()
    """Further options of its JVM: an agent."""
    name: str = "controller"
    slot: int | None = None

    @property
    def node(self) -> KafkaNode:
        """Its part in the cluster."""
        return KafkaNode(self.home, self.name, CONTROLLER_ID, self.class_path, self.port)

    def prepare(self) -> Iterator[Launch]:
        """Write the settings; make a new cluster unless there is one."""
        settings = _SETTINGS.format(host=LOOPBACK, port=self.port)
        yield from self.node.prepare(settings, cluster_id=new_cluster_id(uuid.uuid4().bytes))

    def launch(self) -> Launch:
        """Start it."""
        return self.node.launch(*HEAP, *self.java_options)

    def ready(self) -> bool:
        """Ask no more than whether it listens: a broker waits for its election by itself."""
        return answers(self.port)


def new_cluster_id(random: bytes) -> str:
    """Return 16 random bytes as Kafka writes an id; never with a leading dash, which its tool takes for an option."""
    first = random[0] & 0b0111_1111  # the alphabet's first half: letters
    return base64.urlsafe_b64encode(bytes([first]) + random[1:]).decode().rstrip("=")
