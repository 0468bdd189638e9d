"""What the controller and the broker of a local stack have in common: the cluster, a folder of data, a JVM."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from deploy.local.home import Home, write_atomically
from deploy.local.servers.java import ENVIRONMENT, OPTIONS, SHORT_LIVED, java, unpacking_into
from deploy.local.servers.properties import escaped
from deploy.local.supervise.diagnosis import StartError
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.loopback import LOOPBACK

BROKER_ID, CONTROLLER_ID = 1, 2
SESSION_SECONDS = 2
"""How long after its last sign of life a broker is declared dead."""

_SETTINGS = """\
node.id={number}
controller.quorum.voters={controller}@{host}:{controller_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
# By default a broker that was killed counts as the leader for 9 s: no client would be served until then.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms={session_ms}
"""


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """One node of a cluster in KRaft mode."""

    home: Home
    name: str
    number: int
    class_path: str
    controller_port: int

    @property
    def data(self) -> Path:
        """Where it keeps its log, and which cluster it belongs to."""
        return self.home.data(self.name)

    def cluster_id(self) -> str | None:
        """Return the id of the cluster that its data belong to; None before they are formatted."""
        try:
            lines = (self.data / "meta.properties").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        return dict(line.split("=", 1) for line in lines if "=" in line).get("cluster.id")

    def prepare(self, settings: str, *, cluster_id: str) -> Iterator[Launch]:
        """Write the settings, its own and those of every node; format the data for that cluster unless that was done.

        The quorum is named in the settings, not by `--standalone` in the data, so that the ports may change.

        Raises StartError if the data were formatted elsewhere: this system's Java cannot name the stack's folder.
        """
        write_atomically(self._settings, settings + self._settings_of_every_node())
        if self.cluster_id() is None:
            tool = ("kafka.tools.StorageTool", "format", "--config", str(self._settings))
            yield self._java(*SHORT_LIVED, *tool, "--cluster-id", cluster_id)
            if self.cluster_id() is None:
                raise StartError(
                    f"Java writes beside {self.data}: it cannot name that folder here",
                    cure="choose a folder whose path has ASCII letters alone: --home DIR or PIPELINE_HOME",
                )

    def launch(self, *options: str) -> Launch:
        """Start it, with further options of its JVM."""
        return self._java(*OPTIONS, *options, "kafka.Kafka", str(self._settings))

    def _settings_of_every_node(self) -> str:
        return _SETTINGS.format(
            number=self.number,
            controller=CONTROLLER_ID,
            host=LOOPBACK,
            controller_port=self.controller_port,
            data=escaped(self.data),
            session_ms=SESSION_SECONDS * 1000,
        )

    @property
    def _settings(self) -> Path:
        return self.home.root / f"{self.name}.properties"

    def _java(self, *arguments: str) -> Launch:
        with resources.as_file(resources.files(__package__) / "log4j2.properties") as logging:
            options = (f"-Dlog4j2.configurationFile={logging.as_uri()}", *unpacking_into(self.home.scratch(self.name)))
        # The class path travels in the environment: 92 paths would bury the command in every `ps`.
        environment = {**ENVIRONMENT, "CLASSPATH": self.class_path}
        return Launch(argv=(java(), *options, *arguments), log=self.home.log(self.name), environment=environment)
