"""The supervisor with small stand-ins for the services: restarts, signals, failures, and that nothing stays behind.

No server runs here, so that each case takes a second or two; the real stack is brought up by the system tests.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import home as homes
from deploy.local.fetch.jars import ensure
from deploy.local.home import Home
from deploy.local.stack import state
from deploy.local.stack.state import Phase, ProcessState, StackState
from deploy.local.supervise.guardian import lives
from deploy.local.supervise.runner import State
from onceloop.errors import ExitCode

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

SECONDS_MAX = 20.0

STAND_IN = """
import http.server, os, sys, threading
if "refuse" in sys.argv: print("PIPELINE_X: is not set"); sys.exit(78)
if "crash" in sys.argv: sys.exit("ERROR the stand-in cannot")
ports = [int(os.environ[name]) for name in ("PIPELINE_HTTP_PORT", "PIPELINE_HEALTH_PORT") if name in os.environ]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b'inventory_decisions_total{verdict="reserved"} 5\\n' if self.path == "/metrics" else b"ok")
    def log_message(self, *_): pass
if "stubborn" in sys.argv:
    import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in ports]
for server in servers[:-1]: threading.Thread(target=server.serve_forever, daemon=True).start()
servers[-1].serve_forever()
"""

DRIVER = """
import json, pathlib, sys
from onceloop.errors import ReportedError
from deploy.cli.main import report
from deploy.local import home
from deploy.local.stack import supervisor
from services.row import Service
from deploy.local.stack.view import open_view
plan = json.loads(sys.argv[2])
place = home.at(pathlib.Path(sys.argv[1]))
folder = place.root.with_name("stand-in")
folder.mkdir(parents=True, exist_ok=True)
(folder / "stand_in.py").write_text(plan["stand_in"])
own = {"folder": folder}
services = (
    Service(name="order-api", program=("stand_in",), role="order_rw", http=True, **own),
    Service(name="inventory", program=("stand_in", *plan["inventory"]), role="inventory_rw", slots=2, **own),
)
try:
    with open_view(place) as view:
        provision = (sys.executable, "-c", plan["provision"])
        supervisor.run(supervisor.Plan(place, services, provision, servers=()), view)
except ReportedError as error:
    sys.exit(report(error))
"""


class Supervised:
    """A supervisor in a process of its own."""

    def __init__(
        self, home: Home, *, inventory: tuple[str, ...] = (), provision: str = "", cache: Path | None = None
    ) -> None:
        self.home = home
        plan = json.dumps({"stand_in": STAND_IN, "inventory": inventory, "provision": provision})
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(home.root), plan],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {}),
        )
        self._seen: dict[int, psutil.Process] = {}

    @property
    def stack(self) -> StackState:
        found = state.read(self.home)
        assert found is not None
        return found

    def pid(self, label: str) -> int:
        return next(each.pid for each in self.stack.processes if each.label == label)

    def wait_for(self, condition: Callable[[StackState], bool]) -> StackState:
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            found = state.read(self.home)
            self._note_children()
            if found is not None and condition(found):
                return found
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, f"{found}"
            time.sleep(0.02)

    def wait_ready(self) -> StackState:
        return self.wait_for(lambda stack: stack.phase is Phase.READY and stack.pid == self.process.pid)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=SECONDS_MAX)
        return self.process.returncode, output

    def left(self) -> list[psutil.Process]:
        """Return what still runs of all that was ever seen below the supervisor."""
        return [each for each in self._seen.values() if lives(each)]

    def guardian(self) -> psutil.Process | None:
        """Return the guardian that lives now."""
        self._note_children()
        return next((each for each in self.left() if "deploy.local.supervise.guardian" in cmdline(each)), None)

    def _note_children(self) -> None:
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self._seen |= {each.pid: each for each in children}


def cmdline(process: psutil.Process) -> list[str]:
    """Return its arguments; none if it ends this very moment."""
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def ready(stack: StackState) -> bool:
    return all(each.state is State.READY for each in stack.processes)


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return homes.at(tmp_path / "stack")


@pytest.fixture
def supervise(home: Home) -> Iterator[Callable[..., Supervised]]:
    started: list[Supervised] = []

    def start(**plan: Any) -> Supervised:
        started.append(Supervised(plan.pop("home", home), **plan))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.terminate()
            each.end()


def pipeline(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy.cli.main", arguments[0], "--home", str(home.root), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def status(home: Home) -> Any:
    return json.loads(pipeline(home, "status", "--json").stdout)


def states(stack: Any) -> dict[str, str]:
    return {each["label"]: each["state"] for each in stack["processes"]}


def named(stack: StackState) -> dict[str, ProcessState]:
    return {each.label: each for each in stack.processes}


def test_killed_process_is_started_again_in_its_slot(home: Home, supervise: Callable[..., Supervised]) -> None:
    supervised = supervise()
    before = named(supervised.wait_ready())
    killed = pipeline(home, "kill", "inventory", "--slot", "1")
    assert killed.returncode == 0, killed.stderr
    restarted = supervised.wait_for(lambda stack: named(stack)["inventory-1"].restarts == 1 and ready(stack))
    after = named(restarted)
    assert after["inventory-1"].pid != before["inventory-1"].pid
    assert (after["inventory-1"].slot, after["inventory-1"].port) == (1, before["inventory-1"].port)
    assert after["inventory-0"] == before["inventory-0"]


def test_frozen_process_is_shown_and_goes_on_when_thawed(home: Home, supervise: Callable[..., Supervised]) -> None:
    supervise().wait_ready()
    for sent, shown in (("STOP", "frozen"), ("CONT", "ready")):
        assert pipeline(home, "kill", "inventory-0", "--signal", sent).returncode == 0
        assert wait_until(lambda shown=shown: states(status(home))["inventory-0"] == shown)  # type: ignore[misc]
    assert status(home)["totals"] == {"reserved": None, "failed": None}, "what stand-ins count is no total"


def test_second_stack_in_the_same_folder_is_refused(home: Home, supervise: Callable[..., Supervised]) -> None:
    supervise().wait_ready()
    code, output = Supervised(home).end()
    assert code == ExitCode.UNAVAILABLE
    assert "already runs" in output
    assert "pipeline down" in output


def test_interrupt_stops_everything_and_ends_well(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise()
    supervised.wait_ready()
    supervised.process.send_signal(signal.SIGINT)
    code, output = supervised.end()
    assert code == ExitCode.OK
    assert "stack stopped" in output
    assert not supervised.left()


def test_process_that_does_not_listen_is_killed_within_ten_seconds(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise(inventory=("stubborn",))
    supervised.wait_ready()
    began = time.monotonic()
    supervised.process.send_signal(signal.SIGTERM)
    assert supervised.end()[0] == ExitCode.OK
    assert time.monotonic() - began < 10
    assert not supervised.left()


def test_second_interrupt_does_not_wait(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise(inventory=("stubborn",))
    supervised.wait_ready()
    supervised.process.send_signal(signal.SIGINT)
    supervised.wait_for(lambda stack: stack.phase is Phase.STOPPING)
    began = time.monotonic()
    supervised.process.send_signal(signal.SIGINT)
    supervised.end()
    assert time.monotonic() - began < 2
    assert not supervised.left()


def test_killed_supervisor_leaves_no_orphan(home: Home, supervise: Callable[..., Supervised]) -> None:
    """Aim: no process outlives the stack. Fault: SIGKILL of the supervisor, while one worker ignores SIGTERM.

    The guardian ends them, and a new start waits for it instead of meeting the leftovers.
    """
    supervised = supervise(inventory=("stubborn",))
    supervised.wait_ready()
    supervised.process.kill()
    supervised.end()
    assert pipeline(home, "status").returncode == ExitCode.UNAVAILABLE
    supervise().wait_ready()
    assert not supervised.left()


def test_killed_guardian_is_replaced(supervise: Callable[..., Supervised]) -> None:
    """Fault: first the guardian is killed, some time later the supervisor; the new guardian knows the old children."""
    supervised = supervise()
    supervised.wait_ready()
    first = supervised.guardian()
    assert first is not None
    first.kill()
    supervised.wait_for(lambda _: supervised.guardian() not in {None, first})
    supervised.process.kill()
    supervised.end()
    assert wait_until(lambda: not supervised.left())


def test_interrupt_while_starting_leaves_nothing(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise(provision="import time; time.sleep(60)")
    supervised.wait_for(lambda stack: named(stack)["provision"].state is State.PREPARING)
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.end()[0] == ExitCode.OK
    assert not supervised.left()


def test_failed_provisioning_ends_the_start_with_its_line(supervise: Callable[..., Supervised]) -> None:
    supervised = supervise(provision="import sys; sys.exit('ERROR no such role')")
    code, output = supervised.end()
    assert code == ExitCode.UNAVAILABLE
    assert "error: provision did not start (exit code 1): ERROR no such role" in output
    assert not supervised.left()


def test_refused_settings_end_the_start_at_once(home: Home, supervise: Callable[..., Supervised]) -> None:
    code, output = supervise(inventory=("refuse",)).end()
    assert code == ExitCode.UNAVAILABLE
    assert "refuses its settings:\nPIPELINE_X: is not set" in output
    stack = state.current(home)
    assert stack is not None
    assert (stack.phase, "PIPELINE_X" in stack.error) == (Phase.FAILED, True)


def test_service_that_never_gets_ready_ends_the_start_after_some_tries(supervise: Callable[..., Supervised]) -> None:
    code, output = supervise(inventory=("crash",)).end()
    assert code == ExitCode.UNAVAILABLE
    assert output.count("restarting") >= 2
    assert "ERROR the stand-in cannot" in output


def test_two_stacks_with_two_caches_that_start_at_once_come_up_side_by_side(
    tmp_path: Path, supervise: Callable[..., Supervised]
) -> None:
    """Two users of one host: each has a cache, and so had claims, of his own."""
    caches = [tmp_path / name / "order-pipeline" for name in ("one", "two")]
    for cache in caches:
        cache.mkdir(parents=True)
        for entry in ensure().folder.iterdir():  # what was fetched, and nothing else
            if entry.name not in {"ports", "lock", "incoming"}:
                (cache / entry.name).symlink_to(entry)
    first = supervise(cache=caches[0].parent)
    second = supervise(home=homes.at(tmp_path / "second"), cache=caches[1].parent)
    given = [set(each.wait_ready().ports.values()) for each in (first, second)]
    assert not given[0] & given[1]


def test_port_that_is_taken_between_claim_and_listen_is_replaced_by_the_next_free_one(
    home: Home, supervise: Callable[..., Supervised]
) -> None:
    """Fault: another program listens on the API's port once the stack has found it free; 2m40 later `up` ended."""
    go = home.root / "go"
    supervised = supervise(
        provision=f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.05)"
    )
    before = supervised.wait_for(lambda stack: named(stack)["provision"].state is State.PREPARING).ports
    with socket.create_server(("127.0.0.1", before["api"])):
        go.touch()
        after = supervised.wait_ready().ports
    assert after["api"] > before["api"]
    supervised.process.send_signal(signal.SIGTERM)
    code, output = supervised.end()
    assert code == ExitCode.OK
    assert "Address already in use\nanother program took the port first: starting again on the next free port" in output
    assert not supervised.left()


def test_down_stops_the_stack_and_removes_only_what_it_wrote(home: Home, supervise: Callable[..., Supervised]) -> None:
    supervised = supervise()
    supervised.wait_ready()
    (home.root / "mine.txt").write_text("not the stack's", encoding="utf-8")
    down = pipeline(home, "down", "--volumes")
    assert down.returncode == 0, down.stderr
    assert supervised.end()[0] == ExitCode.OK
    assert not supervised.left()
    assert [path.name for path in home.root.iterdir()] == ["mine.txt"]
