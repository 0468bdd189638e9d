"""A whole pipeline under the chaos launcher: what dies in it is started again 0.3 s later, as its supervisor would.

A lane lives through many runs. Its processes share one plan and one evidence file, so an arm fires once among them.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from chaos.run import run_queue
from chaos.run.plan import Arm, Fired, read_evidence, write_plan
from chaos.run.servers import Child, Site
from onceloop.errors import ExitCode, ReportedError
from services.table import BY_NAME

RESTART_SECONDS = 0.3
TICK_SECONDS = 0.02
READY_SECONDS_MAX = 30.0
FIRED_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 8.0

FAST: Mapping[str, str] = {
    "PIPELINE_KAFKA_CONSUMER_OPTIONS": json.dumps(
        {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500, "max.poll.interval.ms": 10_000}
    ),
    "PIPELINE_KAFKA_PRODUCER_OPTIONS": json.dumps(
        {"transaction.timeout.ms": 4000, "message.timeout.ms": 3000, "socket.timeout.ms": 2000}
    ),
}
"""Shorter time-outs, in the order that the shipped ones have."""


class VoidRunError(ReportedError):
    """The run proves nothing: its fault did not fire, or the lane did not stand. Neither passed nor failed."""

    exit_code = ExitCode.UNAVAILABLE


class Death(NamedTuple):
    """An end that nobody asked for. `code`: negative for a signal; `at`: monotonic seconds."""

    pid: int
    code: int
    at: float


class Start(NamedTuple):
    """A start that got as far as ready. Moments in monotonic seconds; `queued`: seconds that it waited for a CPU."""

    began: float
    ready: float
    queued: float

    @property
    def seconds(self) -> float:
        """What it took, less what other processes took."""
        return self.ready - self.began - self.queued


@dataclass(slots=True, kw_only=True)
class Kept:
    """One process that is kept alive, through all its starts."""

    name: str
    slot: int
    start: Callable[[Mapping[str, str]], Child]
    port: int
    log: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment from the next start on."""
    child: Child | None = None
    held: bool = False
    """True: nobody starts it again."""
    deaths: list[Death] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    ready: bool = False
    _died_at: float = 0.0
    _started_at: float = 0.0

    @property
    def pid(self) -> int:
        """The current process id, 0 while there is none."""
        return self.child.pid if self.child is not None else 0

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1] if lines else "no line in its log"

    def tick(self, now: float) -> None:
        """Look once: note an end, start again, note that it is ready."""
        if self.child is not None and (code := self.child.poll()) is not None:
            if not self.held:
                self.deaths.append(Death(self.child.pid, code, now))
            self.child, self.ready, self._died_at = None, False, now
        if self.child is None and not self.held and now - self._died_at >= RESTART_SECONDS:
            self.child, self._started_at = self.start(self.extra), now
        if self.child is not None and not self.ready and _answers(self.port):
            self.ready = True
            self.starts.append(Start(self._started_at, time.monotonic(), run_queue.waited(self.child.pid)))


class Lane:
    """The services of one site, kept alive by a thread of their own."""

    def __init__(self, site: Site, *, options: Mapping[str, str] = FAST) -> None:
        self.site = site
        self.plan = site.folder / "plan.json"
        self.evidence = site.folder / "evidence.jsonl"
        self._options = options
        self._kept: dict[tuple[str, int], Kept] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"keeper-{site.name}", daemon=True)

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._keeper.join()
        for kept in self.processes():
            if kept.child is not None:
                kept.child.kill()

    def start(self, name: str, slot: int = 0, *, mutant: str = "", **extra: str) -> Kept:
        """Start a service under the launcher and keep it alive; `extra` adds to its environment."""
        service = BY_NAME[name]
        port = self.site.free_port()
        log = self.site.folder / f"{name}-{slot}.log"
        environment = {
            **self.site.environment(service.role),
            **self._options,
            service.port_variable: str(port),
            "PIPELINE_SLOT": str(slot),
            "PIPELINE_HTTP_METRICS_DIR": str(self.site.folder / f"{name}-{slot}-metrics"),
            "CHAOS_PLAN": str(self.plan),
            "CHAOS_EVIDENCE": str(self.evidence),
            **({"CHAOS_MUTANT": mutant} if mutant else {}),
        }

        def launch(more: Mapping[str, str]) -> Child:
            return self.site.start(("chaos.run.launch", *service.program), log, {**environment, **more})

        kept = Kept(name=name, slot=slot, start=launch, port=port, log=log, extra=extra)
        with self._lock:
            self._kept[name, slot] = kept
            kept.tick(time.monotonic())
        return kept

    def kept(self, name: str, slot: int = 0) -> Kept:
        """Return a process of the lane."""
        return self._kept[name, slot]

    def processes(self) -> Sequence[Kept]:
        """Return all of them, in starting order."""
        with self._lock:
            return tuple(self._kept.values())

    def wait_ready(self, *kept: Kept, seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until these are ready, or all. Raises VoidRunError with the last words of those that are not."""
        asked = kept or self.processes()
        try:
            self.wait(lambda: all(each.ready for each in asked), "every service ready", seconds=seconds)
        except VoidRunError as error:
            late = "; ".join(f"{each.name} {each.slot}: {each.last_words}" for each in asked if not each.ready)
            raise VoidRunError(f"{error.message}: {late}", cure=error.cure) from error

    def wait_opened(self) -> None:
        """Wait until all are ready for the first time. Raises VoidRunError.

        How long that took is not kept: several lanes open at once, and the rule is about one process that starts again.
        """
        self.wait_ready()
        for kept in self.processes():
            kept.starts.clear()

    def wait(self, condition: Callable[[], bool], what: str, *, seconds: float = FIRED_SECONDS_MAX) -> None:
        """Return as soon as it holds. Raises VoidRunError after so long."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise VoidRunError(f"not {what} within {seconds:.0f} s", cure=f"read the logs in {self.site.folder}")
            time.sleep(TICK_SECONDS)

    def arm(self, *arms: Arm) -> None:
        """Replace the plan; hits count anew from now on."""
        write_plan(self.plan, arms)

    def fired(self, arm: Arm) -> Fired | None:
        """Return the evidence of an arm."""
        return next((line for line in read_evidence(self.evidence) if line.arm == arm.id), None)

    def wait_fired(self, arm: Arm, *, seconds: float = FIRED_SECONDS_MAX) -> Fired:
        """Wait for the evidence. Raises VoidRunError: a fault that did not fire proves nothing."""
        self.wait(lambda: self.fired(arm) is not None, f"the hit of {arm.point}", seconds=seconds)
        fired = self.fired(arm)
        assert fired is not None  # noqa: S101 - just seen
        return fired

    def replace(self, kept: Kept, *, graceful: bool = False, **extra: str) -> None:
        """End a process and have the keeper start it anew, with `extra` in its environment from now on."""
        with self.held(kept):
            self._end(kept, graceful=graceful)
            kept.extra = extra

    def end(self, kept: Kept, *, graceful: bool = True) -> int | None:
        """End a process for good; return its exit code."""
        with self._lock:
            kept.held = True
        code = self._end(kept, graceful=graceful)
        with self._lock:
            del self._kept[kept.name, kept.slot]
        return code

    def shoot(self, kept: Kept) -> int:
        """SIGKILL a process that the keeper then starts anew; return its pid."""
        pid = kept.pid
        if kept.child is not None:
            kept.child.kill()
        return pid

    @contextmanager
    def held(self, kept: Kept) -> Iterator[None]:
        """Have nobody start this process while the block runs; its end is no death."""
        with self._lock:
            kept.held = True
        try:
            yield
        finally:
            with self._lock:
                kept.held = False

    @contextmanager
    def unkept(self) -> Iterator[None]:
        """Have nothing started, and no end seen, while the block runs."""
        with self._lock:
            yield

    @contextmanager
    def parked(self, *parking: Kept) -> Iterator[None]:
        """End these, up or not, and keep them from being started while the block runs."""
        with ExitStack() as over:
            for kept in parking:
                over.enter_context(self.held(kept))
                self._end(kept, graceful=True)
            yield

    def set_stock(self, quantities: Mapping[str, int]) -> None:
        """Put so much of each SKU on hand, none of it reserved. For a lane without orders."""
        self.site.administer(
            "INSERT INTO inventory.stock SELECT sku, units, units"
            " FROM unnest(CAST(:skus AS text[]), CAST(:units AS int[])) AS shelf(sku, units)",
            skus=list(quantities),
            units=list(quantities.values()),
        )

    def _end(self, kept: Kept, *, graceful: bool) -> int | None:
        child = kept.child
        if child is None:
            return None
        if graceful:
            child.ask_to_stop()
            code = child.wait(STOP_SECONDS_MAX)
        else:
            code = None
        if code is None:
            child.kill()
            code = child.poll()
        with self._lock:
            kept.tick(time.monotonic())
        return code

    def _keep(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            with self._lock:
                for kept in self._kept.values():
                    kept.tick(time.monotonic())


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    return False
