"""Processes of a pipeline: each is started again 0.3 s after its end, as its supervisor would do."""

import http.client
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, Protocol

from chaos.run import run_queue

RESTART_SECONDS = 0.3


class Child(Protocol):
    """A started process."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Return the exit code once it has ended; negative: the signal that ended it."""

    def wait(self, timeout_seconds: float) -> int | None:
        """Return the exit code, or None if it outlasts the time."""

    def ask_to_stop(self) -> None:
        """Ask for an orderly end."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all below it."""

    def kill(self) -> None:
        """SIGKILL it and all below it; return when they are gone."""


class Death(NamedTuple):
    """An end that was not asked for. `code`: negative for a signal; `at`: monotonic seconds."""

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


@dataclass(frozen=True, slots=True)
class Stopped:
    """An end that was asked for at `at`, by the machine's monotonic clock. `code`: None if there was no process."""

    name: str
    pid: int
    at: float
    seconds: float
    code: int | None


@dataclass(slots=True, kw_only=True)
class Slot:
    """One slot of a service, through all the processes that are started in it."""

    service: str
    number: int
    start: Callable[[Mapping[str, str]], Child]
    port: int
    log: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment from the next start on."""
    child: Child | None = None
    held: bool = False
    """True: nothing is started in it."""
    deaths: list[Death] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    ready: bool = False
    _died_at: float = 0.0
    _started_at: float = 0.0

    def __str__(self) -> str:
        return f"{self.service} {self.number}"

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


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    return False
