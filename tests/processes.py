"""Start real service processes, look at them, kill them; none outlives the block, or pytest itself."""

import http.client
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from deploy.local.stack.ports import Claims
from deploy.local.supervise.guardian import Guardian
from deploy.local.supervise.launch import Launch
from deploy.local.supervise.process import Child
from tests.ports import free_port

READY_SECONDS = 20.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02


class Process:
    """One process that a test started."""

    def __init__(self, child: Child, environment: Mapping[str, str]) -> None:
        self._child = child
        self.log = child.launch.log
        self.health_url = f"http://127.0.0.1:{environment.get('PIPELINE_HEALTH_PORT', '0')}"
        self.http_url = f"http://127.0.0.1:{environment.get('PIPELINE_HTTP_PORT', '0')}"

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._child.poll()

    def output(self) -> str:
        """Return all it wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_ready(self, url: str | None = None, *, timeout_seconds: float = READY_SECONDS) -> Self:
        """Wait until /readyz answers 200; `url` is `health_url` unless given (`http_url` for the API)."""
        deadline = time.monotonic() + timeout_seconds
        while self.readiness(url) is not HTTPStatus.OK:
            assert self.exit_code is None, f"ended with {self.exit_code} before it was ready\n{self._tail()}"
            assert time.monotonic() < deadline, f"not ready within {timeout_seconds} s\n{self._tail()}"
            time.sleep(POLL_SECONDS)
        return self

    def wait(self, *, timeout_seconds: float = STOP_SECONDS) -> int:
        """Wait until it ends by itself; return its exit code."""
        code = self._child.wait(timeout_seconds)
        assert code is not None, f"pid {self.pid} did not end within {timeout_seconds} s\n{self._tail()}"
        return code

    def stop(self) -> int:
        """Ask it to end, as the supervisor does; return its exit code."""
        self._child.ask_to_stop()
        return self.wait()

    def kill(self) -> None:
        """SIGKILL it and all below it; return when they are gone."""
        self._child.kill()

    def freeze(self) -> None:
        """SIGSTOP it and all below it: a zombie in the making."""
        self._child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT them."""
        self._child.send(signal.SIGCONT)

    def readiness(self, url: str | None = None) -> HTTPStatus | None:
        """Return what /readyz answers now; None without an answer. `url` as for `wait_ready`."""
        at = urlsplit(url or self.health_url).netloc
        connection = http.client.HTTPConnection(at, timeout=1)  # no proxy stands between us and loopback
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            return HTTPStatus(connection.getresponse().status)
        return None

    def _tail(self) -> str:
        return "\n".join(self.output().splitlines()[-30:])


class Processes:
    """The processes of one test. A guardian outside pytest ends them even if pytest is killed."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._claims = Claims()
        self._children: list[Child] = []
        self._guardian: Guardian | None = None
        self._scratched = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()
        if self._guardian is not None:
            self._guardian.close()
        self._claims.release()

    def start(self, module: str, *arguments: str, env: Mapping[str, str]) -> Process:
        """Start `python -m module arguments`; its output goes to a file of its own under the test's folder."""
        if self._guardian is None:
            self._guardian = Guardian()
        log = self._logs / f"{len(self._children)}-{module}.log"
        launch = Launch(argv=(sys.executable, "-m", module, *arguments), log=log, environment=env)
        child = Child(launch, self._guardian)
        self._children.append(child)
        return Process(child, env)

    def scratch(self) -> Path:
        """Return a folder that is not there yet, for what a process leaves behind."""
        self._scratched += 1
        return self._logs / f"scratch-{self._scratched}"

    def free_port(self) -> int:
        """Return a port that no other process gets as long as this test runs."""
        return free_port(self._claims)


def wait_for(condition: Callable[[], bool], *, timeout_seconds: float, what: str) -> None:
    """Wait until the condition holds; fail naming `what` when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {timeout_seconds} s: {what}"
        time.sleep(POLL_SECONDS)
