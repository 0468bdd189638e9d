"""One pipeline of a chaos run: provisioned, its services kept alive under the launcher, loaded, armed, audited."""

import json
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from audit.config import CheckerSettings
from audit.readers.evidence import Evidence
from audit.readers.snapshots import StockSampler
from audit.rules.judge import Judgement
from audit.terms import Offsets
from audit.whole import Auditor
from chaos.load import DirectLoad, HttpLoad, Mix, wall_clock_ms
from chaos.run.findings import VoidRunError
from chaos.run.plan import Arm, Fired, read_evidence, write_plan
from chaos.run.processes import Child, Slot, Stopped
from chaos.run.servers import Administrator, Broker, Server, Shelves
from chaos.run.threads import repeated
from services.table import BY_NAME

TICK_SECONDS = 0.02
READY_SECONDS_MAX = 30.0
FIRED_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 8.0
CAME_THROUGH_SECONDS_MAX = 60.0

FAST: Mapping[str, str] = {
    "PIPELINE_KAFKA_CONSUMER_OPTIONS": json.dumps(
        {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 10_000}
    ),
    "PIPELINE_KAFKA_PRODUCER_OPTIONS": json.dumps(
        {"transaction.timeout.ms": 4000, "message.timeout.ms": 3000, "socket.timeout.ms": 2000}
    ),
}
"""Shorter time-outs, in the order that the shipped ones have."""
SMALL_BATCHES: Mapping[str, str] = {"PIPELINE_BATCH_RECORDS_MAX": "25"}

T = TypeVar("T")


class Servers(Protocol):
    """The servers of one chaos command, and the pipelines on them."""

    controller: Server
    """Of the broker's cluster."""
    kafka: Server
    postgres: Server
    registry: Server

    def second_broker(self) -> AbstractContextManager[Broker]:
        """Have one more broker in the cluster while the block runs; it leads what is moved there, or made meanwhile."""

    def pipeline(self, name: str, *, partitions: int) -> AbstractContextManager["Pipeline"]:
        """Open a fresh pipeline whose event topics have so many partitions; its processes and topics end with it."""


@dataclass(kw_only=True, eq=False)
class Pipeline:
    """A provisioned namespace and database, empty of stock, and the services that a thread keeps alive there.

    Its topics have a past that retention has taken: no partition begins at offset 0. It lives through many runs. Its
    processes share one plan and one evidence file, so an arm fires once among them.
    """

    name: str
    folder: Path
    """Where plans, evidence and logs go."""
    servers: Servers
    """Those that it shares with other pipelines."""
    settings: CheckerSettings
    environment: Callable[[str | None], Mapping[str, str]]
    """Database role -> the variables of a service that acts as it; None: of one that has no tables."""
    launch: Callable[[tuple[str, ...], Path, Mapping[str, str]], Child]
    """Start `python -m ...` with a log file and an environment; it ends with the pipeline at the latest."""
    free_port: Callable[[], int]
    administer: Administrator
    session: Callable[[], AbstractContextManager[Administrator]]
    """Open a session of the superuser whose statements are one transaction; the end of the block rolls it back."""
    shelves: Shelves
    backup: Callable[[], Callable[[], None]]
    """Copy the database as it is now; return what puts that copy in its place. All sessions end, each time."""
    command: Callable[..., str]
    """Run `pipeline` with these arguments here; return what it prints. Raises ReportedError if it refuses."""
    heads: Offsets
    """Where each partition of a topic begins; below it there never was an order."""
    secrets: tuple[str, ...]
    """Passwords that no log may hold."""
    options: Mapping[str, str] = field(default_factory=lambda: FAST)
    """What every service has in its environment besides; from its start on, as what follows."""
    worker_options: Mapping[str, str] = field(default_factory=lambda: SMALL_BATCHES)
    """What an inventory worker has in its environment besides."""
    bug: str = ""
    """The planted bug that all of them run with."""
    clock: Callable[[], int] = wall_clock_ms
    """When the orders of a load are placed, in milliseconds since the epoch."""

    def __post_init__(self) -> None:
        self.plan, self.evidence = self.folder / "plan.json", self.folder / "evidence.jsonl"
        self.history, self.written, self.planted, self.snapshots = (
            self.folder / name for name in ("history.jsonl", "written.jsonl", "planted.jsonl", "stock.jsonl")
        )
        for file in (self.history, self.written, self.planted, self.snapshots):
            file.touch()
        self.auditor = Auditor(self.settings)
        self._mix = Mix(seed=0)
        self._slots: dict[tuple[str, int], Slot] = {}
        self._lock = threading.RLock()
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self._opened.callback(self._kill_all)
        self.open(repeated(f"keeper-{self.name}", self._keep, every_seconds=TICK_SECONDS))
        self.open(self.auditor)
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def open(self, beside: AbstractContextManager[T]) -> T:
        """Enter what ends with the pipeline."""
        return self._opened.enter_context(beside)

    def stock(self, mix: Mix, others: Mapping[str, int] | None = None) -> None:
        """Put on hand what a mix orders from, `others` in other numbers, and look at the stock from now on.

        For a pipeline without orders. Each load then is one more of that mix.
        """
        self._mix = mix
        quantities = {**mix.shelves(), **(others or {})}
        self.administer(
            "INSERT INTO inventory.stock SELECT sku, units, units"
            " FROM unnest(CAST(:skus AS text[]), CAST(:units AS int[])) AS shelf(sku, units)",
            skus=list(quantities),
            units=list(quantities.values()),
        )
        self.open(StockSampler(self.settings, self.snapshots))

    def mix(self, **more: Any) -> Mix:
        """Return other orders than any mix before, on the same stock."""
        self._mix = replace(self._mix, seed=self._mix.seed + 1)
        return replace(self._mix, **more)

    def load(self, *, http: int = 0, direct: int = 0, **more: Any) -> None:
        """Put so many more orders onto the topic and in over HTTP."""
        mix = self.mix(http_orders=http, direct_orders=direct, **more)
        if direct:
            self.direct_load().run(mix)
        if http:
            self.http_load().run(mix)

    def direct_load(self) -> DirectLoad:
        """Return what writes orders onto the topic."""
        return DirectLoad(self.settings, self.written, now_ms=self.clock)

    def http_load(self, **options: Any) -> HttpLoad:
        """Return what places orders over HTTP."""
        return HttpLoad(f"http://127.0.0.1:{self.slot('order-api').port}", self.history, **options)

    def audit(
        self,
        *,
        wait_seconds: float = CAME_THROUGH_SECONDS_MAX,
        followers: bool = True,
        minutes: bool = False,
        reread: bool = False,
        restocked: Collection[str] = (),
        grown: Sequence[tuple[float, float]] = (),
    ) -> Judgement:
        """Judge all that happened here so far; what does not come through in time is judged as it stands.

        For the parameters see `Auditor.audit` and `Evidence`.
        """
        evidence = Evidence(
            history=self.history,
            written=[self.written, self.planted],
            snapshots=self.snapshots,
            logs=sorted(self.folder.glob("*.log")),
            secrets=self.secrets,
            reread=reread,
            heads=self.heads,
            restocked=restocked,
            grown=grown,
        )
        return self.auditor.audit(
            wait_seconds=wait_seconds, followers=followers, minutes=minutes, restocked=False, evidence=evidence
        )

    def start(self, service: str, number: int = 0, **extra: str) -> Slot:
        """Start a service under the launcher and keep it alive; `extra` adds to its environment."""
        row, port = BY_NAME[service], self.free_port()
        log = self.folder / f"{service}-{number}.log"
        environment = {
            **self.environment(row.role),
            **self.options,
            **(self.worker_options if service == "inventory" else {}),
            row.port_variable: str(port),
            "PIPELINE_SLOT": str(number),
            "PIPELINE_HTTP_METRICS_DIR": str(self.folder / f"{service}-{number}-metrics"),
            "CHAOS_PLAN": str(self.plan),
            "CHAOS_EVIDENCE": str(self.evidence),
            **({"CHAOS_MUTANT": self.bug} if self.bug else {}),
        }

        def start(more: Mapping[str, str]) -> Child:
            return self.launch(("chaos.run.launch", *row.program), log, {**environment, **more})

        slot = Slot(service=service, number=number, start=start, port=port, log=log, extra=extra)
        with self._lock:
            self._slots[service, number] = slot
            slot.tick(time.monotonic())
        return slot

    def slot(self, service: str, number: int = 0) -> Slot:
        """Return a slot in which a service was started."""
        return self._slots[service, number]

    def slots(self, *services: str) -> Sequence[Slot]:
        """Return the slots of these services, or all, in starting order."""
        with self._lock:
            return [slot for slot in self._slots.values() if not services or slot.service in services]

    def wait_ready(self, *slots: Slot, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until these are ready, or all. Raises VoidRunError with the last words of those that are not."""
        asked = slots or self.slots()
        try:
            self.wait(lambda: all(each.ready for each in asked), "every service ready", seconds=seconds)
        except VoidRunError as error:
            late = "; ".join(f"{each}: {each.last_words}" for each in asked if not each.ready)
            raise VoidRunError(f"{error.message}: {late}", cure=error.cure) from error

    def wait_opened(self) -> None:
        """Wait until all are ready for the first time. Raises VoidRunError.

        How long that took is not kept: several pipelines open at once, and the rule is about one process that starts
        again.
        """
        self.wait_ready()
        for slot in self.slots():
            slot.starts.clear()

    def wait(
        self,
        look: Callable[[], T | None],
        what: str,
        *,
        seconds: float = FIRED_SECONDS_MAX,
        every_seconds: float = TICK_SECONDS,
    ) -> T:
        """Look until there is something, and return it. Raises VoidRunError after so long."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if time.monotonic() > deadline:
                raise VoidRunError(f"not {what} within {seconds:.0f} s", cure=f"read the logs in {self.folder}")
            time.sleep(every_seconds)
        return found

    def arm(self, *arms: Arm) -> None:
        """Replace the plan; hits are counted from here."""
        write_plan(self.plan, arms)

    def wait_fired(self, arm: Arm, *, seconds: float = FIRED_SECONDS_MAX) -> Fired:
        """Wait for the evidence. Raises VoidRunError: a fault that did not fire proves nothing."""

        def fired() -> Fired | None:
            return next((line for line in read_evidence(self.evidence) if line.arm == arm.id), None)

        return self.wait(fired, f"the hit of {arm.point}", seconds=seconds)

    def slot_of(self, pid: int) -> Slot | None:
        """Return the slot of this process, if it still lives."""
        return next((slot for slot in self.slots() if slot.pid == pid), None)

    def wake(self, fired: Fired) -> bool:
        """Send SIGCONT to a process that was stopped; return False if it is gone."""
        slot = self.slot_of(fired.pid)
        if slot is None or slot.child is None:
            return False
        with suppress(ProcessLookupError):
            slot.child.send(signal.SIGCONT)
        return True

    def replace(self, slot: Slot, *, graceful: bool = False, **extra: str) -> None:
        """End a process; the next one in its slot has `extra` in its environment from now on."""
        with self.held(slot):
            self.stop(slot, graceful=graceful)
            slot.extra = extra

    def end(self, slot: Slot, *, graceful: bool = True) -> Stopped:
        """End a process for good, and its slot with it."""
        with self._lock:
            slot.held = True
        stopped = self.stop(slot, graceful=graceful)
        with self._lock:
            del self._slots[slot.service, slot.number]
        return stopped

    def end_all(self) -> list[Stopped]:
        """Ask all processes at once to end for good."""
        slots = self.slots()
        with ThreadPoolExecutor(len(slots) or 1, "end") as pool:
            return list(pool.map(self.end, slots))

    def stop(self, slot: Slot, *, graceful: bool = True) -> Stopped:
        """End a process: ask it to, or by SIGKILL; one that does not obey for 8 s is killed. Its slot is to be held."""
        child, began, code = slot.child, time.monotonic(), None
        if child is None:
            return Stopped(str(slot), 0, began, 0.0, None)
        if graceful:
            child.ask_to_stop()
            code = child.wait(STOP_SECONDS_MAX)
        if code is None:
            child.kill()
            code = child.poll()
        stopped = Stopped(str(slot), child.pid, began, time.monotonic() - began, code)
        with self._lock:
            slot.tick(time.monotonic())
        return stopped

    def shoot(self, slot: Slot) -> int:
        """SIGKILL a process, in whose slot another one is then started; return its pid."""
        pid = slot.pid
        if slot.child is not None:
            slot.child.kill()
        return pid

    @contextmanager
    def held(self, slot: Slot) -> Iterator[None]:
        """Have nothing started in this slot while the block runs; the end of its process is no death."""
        with self._lock:
            slot.held = True
        try:
            yield
        finally:
            with self._lock:
                slot.held = False

    @contextmanager
    def unkept(self) -> Iterator[None]:
        """Have nothing started, and no end seen, while the block runs."""
        with self._lock:
            yield

    @contextmanager
    def parked(self, *slots: Slot) -> Iterator[None]:
        """End these, up or not, and keep them from being started while the block runs."""
        with ExitStack() as over:
            for slot in slots:
                over.enter_context(self.held(slot))
                self.stop(slot)
            yield

    def _keep(self) -> None:
        with self._lock:
            for slot in self._slots.values():
                slot.tick(time.monotonic())

    def _kill_all(self) -> None:
        for slot in self.slots():
            self.shoot(slot)
