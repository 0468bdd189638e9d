"""The whole pipeline of one measurement: its processes, the load on it, and a reader of what it commits."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psutil
from confluent_kafka import KafkaException
from rich.console import Console

from audit.config import CheckerSettings
from audit.readers.cluster import Cluster
from audit.rules.judge import Judgement
from audit.whole import audit
from benchmarks import http_load
from benchmarks.http_load import Answer, Load
from benchmarks.whole import WholeError
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.notifications import NotificationSent
from common.kafka.schema_registry import open_codec
from common.topics import INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION_SENT
from deploy.cli.checking import checker_settings
from deploy.cli.running import running
from deploy.cli.throwaway import Throwaway, throwaway
from deploy.cli.verify import show
from deploy.local.stack.ports import HEALTH, Claims, assign
from deploy.local.stack.state import StackState
from deploy.local.supervise import logs
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.loopback import LOOPBACK
from deploy.local.supervise.process import Child
from deploy.provision.demo import demo_stock
from onceloop.errors import ExitCode
from order_service.config import ApiSettings

EVENTS: dict[str, type[InventoryReserved | InventoryFailed | NotificationSent]] = {
    INVENTORY_RESERVED.name: InventoryReserved,
    INVENTORY_FAILED.name: InventoryFailed,
    NOTIFICATION_SENT.name: NotificationSent,
}
LOAD_SECONDS_MAX = 300.0
AUDIT_SECONDS = 120.0
READ_MAX, READ_SECONDS = 500, 0.1
TAIL_LINES = 20
STOP_SECONDS_MAX = 10.0
START_SECONDS_MAX = 20.0


class Arrivals:
    """When outcomes and notifications could be read, by a reader of what is committed; a thread of its own."""

    def __init__(self, settings: CheckerSettings) -> None:
        self.decided: dict[str, float] = {}
        self.notified: dict[str, float] = {}
        cluster = Cluster(settings)
        topics = (INVENTORY_RESERVED, INVENTORY_FAILED, NOTIFICATION_SENT)
        self._codec = open_codec(settings, topics)
        self._consumer = cluster.consumer(cluster.ends(topics), {"enable.partition.eof": False})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="arrivals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._over.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._over.is_set():
            with suppress(KafkaException):
                for message in self._consumer.consume(READ_MAX, READ_SECONDS):
                    now = time.time()
                    if message.error() is None:
                        event = self._codec.decode(EVENTS[str(message.topic())], message.value())
                        seen = self.notified if isinstance(event, NotificationSent) else self.decided
                        seen.setdefault(event.order_id, now)


class WholeStack:
    """A stack as `pipeline up` runs it."""

    def __init__(self, place: Throwaway, stack: StackState, settings: CheckerSettings, console: Console) -> None:
        self.port = stack.ports["api"]
        self.skus = tuple(demo_stock())
        self.arrivals = Arrivals(settings)
        self._place, self._settings, self._console = place, settings, console
        self._processes = {each.label: psutil.Process(each.pid) for each in stack.processes if each.pid}
        self._processes["supervisor"] = psutil.Process(stack.pid)

    def cpu_seconds(self) -> dict[str, float]:
        """Return process -> CPU time so far, with that of its children."""
        pids = {process.pid for process in self._processes.values()}
        return {label: _spent(process, apart=pids) for label, process in self._processes.items()}

    def ask(self, load: Load) -> list[Answer]:
        """Do the load in a process of its own. Raises WholeError."""
        file, log = self._place.home.root / "answers", self._place.home.log("load")
        argv = (sys.executable, "-m", "benchmarks.http_load", load.text(), str(file))
        process = Child(Launch(argv=argv, log=log), self._place.guardian)
        code = process.wait(LOAD_SECONDS_MAX)
        process.kill()
        if code != ExitCode.OK:
            raise WholeError("the load broke off:\n" + "\n".join(logs.last_lines(log, TAIL_LINES)))
        return http_load.read(file)

    @contextmanager
    def empty_route(self) -> Iterator[int]:
        """Serve the empty route with the API's processes and threads while the block runs; yield its port."""
        claims = Claims()
        ports, _ = assign(self._place.home, [HEALTH], claims)
        port = ports[HEALTH]
        processes, threads = (str(ApiSettings.model_fields[each].default) for each in ("http_workers", "http_threads"))
        claims.release()
        argv = (sys.executable, "-m", "benchmarks.empty_route", str(port), processes, threads)
        server = Child(Launch(argv=argv, log=self._place.home.log("empty-route")), self._place.guardian)
        try:
            _await_open(port)
            yield port
        finally:
            server.ask_to_stop()
            server.wait(STOP_SECONDS_MAX)
            server.kill()

    def judge(self) -> Judgement:
        """Show and return the verdict on all that was done here."""
        began = time.monotonic()
        judgement = audit(self._settings, wait_seconds=AUDIT_SECONDS, followers=True, restocked=False)
        show(judgement, time.monotonic() - began, self._console)
        return judgement


@contextmanager
def whole_stack(console: Console) -> Iterator[WholeStack]:
    """Yield a pipeline in a folder of its own, as soon as it is ready; nothing of it is left at the end."""
    with throwaway("bench") as place, running(place, console) as stack:
        whole = WholeStack(place, stack, checker_settings(place.home.root), console)
        with closing(whole.arrivals):
            yield whole


def _spent(process: psutil.Process, *, apart: set[int]) -> float:
    """Return the CPU time of a process, its children's and their children's; without those that count apart."""
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        own = times.user + times.system + times.children_user + times.children_system
        return own + sum(_spent(child, apart=apart) for child in process.children() if child.pid not in apart)
    return 0.0


def _await_open(port: int) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0):
            return
        time.sleep(0.05)
    raise WholeError(f"the empty route did not open port {port}")
