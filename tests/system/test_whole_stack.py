"""`pipeline up` as a user runs it: started, stopped within seconds, started again with all its parts, and watched.

One story for the whole module, since each start costs as much as all the looking: the fixture plays it and keeps what
it saw, the tests judge.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest
from psycopg import sql

from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.servers import prometheus
from deploy.local.stack import ports, servers, state
from deploy.local.supervise.guardian import lives
from tests.monitoring import ALERTS, BOARDS, needs, queries

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

SECONDS_MAX = 60.0
STOP_SECONDS = 10.0
POSTING = 8
INSIDE = 'sum(kafka_consumer_lag_records{group="inventory"})'
OUTSIDE = 'sum(kafka_group_lag_records{group="inventory"})'
FIRST_COUNTS = (
    'order_http_request_duration_seconds_count{method="POST",route="/orders",status="202"}',
    *(f'kafka_batch_seconds_count{{job="{job}"}}' for job in ("order-projection", "inventory", "notification")),
)


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that runs, and what can be asked of it."""

    home: Home

    def state(self) -> state.StackState:
        found = state.current(self.home)
        assert found is not None
        return found

    def everything(self) -> list[psutil.Process]:
        stack = self.state()
        tops = [psutil.Process(pid) for pid in (stack.pid, *(each.pid for each in stack.processes)) if pid]
        return [each for top in tops for each in (top, *top.children(recursive=True))]

    def pids(self, service: str) -> list[int]:
        return [each.pid for each in self.state().processes if each.name == service]

    def place(self, user: str) -> str:
        """Place an order; return its id."""
        with closing(self._connection("api")) as connection:
            return place(connection, user)

    def post(self, orders: int) -> None:
        """Post so many orders, several at a time, each accepted."""

        def post_some(users: range) -> None:
            with closing(self._connection("api")) as connection:
                for user in users:
                    place(connection, f"user-{user}")

        with ThreadPoolExecutor(POSTING) as pool:
            list(pool.map(post_some, [range(first, orders, POSTING) for first in range(POSTING)]))

    def status_of(self, order_id: str) -> str:
        return str(self._get("api", f"/orders/{order_id}")["status"])

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return what Prometheus answers to a query now: labels and values."""
        answer = self._get("prometheus", f"/api/v1/query?query={quote(query)}")
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def value(self, query: str) -> float | None:
        result = self.ask(query)
        return float(result[0]["value"][1]) if result else None

    def shown(self, alert: str, **labels: str) -> str | None:
        """Return the summary of an alert if it fires with these labels."""
        wanted = {"alertname": alert, **labels}.items()
        alerts = self._get("prometheus", "/api/v1/alerts")["data"]["alerts"]
        found = (each for each in alerts if each["state"] == "firing" and wanted <= each["labels"].items())
        return next((each["annotations"]["summary"] for each in found), None)

    def _get(self, port: str, path: str) -> Any:
        with closing(self._connection(port)) as connection:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())

    def _connection(self, port: str) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.state().ports[port], timeout=10)


@dataclass(frozen=True, slots=True)
class FirstLife:
    """What was seen of a stack until it was stopped."""

    said: str
    status: dict[str, Any]
    environment: str
    order_id: str
    outcome: str
    processes: list[psutil.Process]
    stop_seconds: float
    ports_left: list[str]


@dataclass(frozen=True, slots=True)
class Story:
    """A stack that took an order, was stopped, and runs again, watched."""

    first: FirstLife
    again: Running


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = homes.at(tmp_path_factory.mktemp("whole") / "Jürgens stack = 1 [neu]")
    monitoring = ("--with", "monitoring") if shutil.which("prometheus") else ()
    try:
        first = first_life(home)
        pipeline(home, "up", "--detach", "--with", "connect", *monitoring)
        yield Story(first, Running(home))
    finally:
        pipeline(home, "down", "--volumes")
    assert not home.root.exists()


def first_life(home: Home) -> FirstLife:
    said, stack = pipeline(home, "up", "--detach"), Running(home)
    order_id = stack.place("ada")
    status, environment = json.loads(pipeline(home, "status", "--json")), pipeline(home, "env")
    wait_for(lambda: stack.status_of(order_id) != "pending", lambda: f"{order_id} is pending")
    outcome, processes = stack.status_of(order_id), stack.everything()
    began = time.monotonic()
    pipeline(home, "down")
    seconds = time.monotonic() - began
    busy = [name for name, port in status["ports"].items() if not ports.is_free(port)]
    return FirstLife(said, status, environment, order_id, outcome, processes, seconds, busy)


def company_laptop() -> dict[str, str]:
    """Return an environment with a proxy that does not answer, from which nothing is excepted, and no locale."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in {"no_proxy", "http_proxy"}}
    return kept | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "LC_ALL": "C"}


@pytest.fixture(scope="module")
def watched(story: Story) -> Running:
    """The second life, with a hundred more orders; Prometheus looks each second, its alerts wait for one."""
    needs("prometheus")
    stack = story.again
    hurry(stack)
    stack.post(50)
    # A count begins with its first event: only what comes after a look at that is a rate.
    wait_for(lambda: not unseen(stack), lambda: unseen(stack))
    stack.post(50)
    return stack


def unseen(stack: Running) -> list[str]:
    """Return which of the first counts of each service Prometheus has not looked at yet."""
    return [query for query in FIRST_COUNTS if not stack.ask(query)]


def pipeline(home: Home, command: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", command, "--home", str(home.root), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=company_laptop() | {"NO_COLOR": "1", "PIPELINE_EXPORTER_SECONDS": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def place(connection: http.client.HTTPConnection, user: str) -> str:
    order = {"user_id": user, "lines": [{"sku": "tea", "quantity": 1}]}
    connection.request("POST", "/orders", json.dumps(order), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == 202, answer
    return str(answer["order_id"])


def hurry(stack: Running) -> None:
    """Shorten every wait of the rules; what they look at stays the same."""
    program = prometheus.Prometheus(stack.home, 0, ())
    folder = program.settings.parent
    rules = re.sub(r"for: \w+", "for: 1s", ALERTS.read_text(encoding="utf-8")).replace("[1m]", "[4s]")
    (folder / "hurried.yml").write_text(rules, encoding="utf-8")
    program.settings.write_text(prometheus.settings_text(folder / "hurried.yml", folder / "targets.json", seconds=1))
    os.kill(stack.pids("prometheus")[0], signal.SIGHUP)


def wait_for(condition: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.2)


@contextmanager
def database_closed(home: Home, role: str) -> Iterator[None]:
    """Let no process in as the role: its workers live, and get nowhere."""
    with psycopg.connect(servers.addresses_of(home).postgres_dsn(), autocommit=True) as connection:
        limit = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format
        connection.execute(limit(sql.Identifier(role), 0))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
        try:
            yield
        finally:
            connection.execute(limit(sql.Identifier(role), -1))


@contextmanager
def frozen(stack: Running, service: str) -> Iterator[None]:
    pids = stack.pids(service)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def numbers(result: list[dict[str, Any]]) -> list[str]:
    return [each["value"][1] for each in result if each["value"][1] != "NaN"]


def test_start_serves_and_says_how_to_go_on(story: Story) -> None:
    first = story.first
    assert "stack ready" in first.said
    assert "\x1b" not in first.said
    assert f"localhost:{first.status['ports']['api']}/orders" in first.said
    assert {each["state"] for each in first.status["processes"]} == {"ready", "done"}
    assert sum(each["memory_bytes"] for each in first.status["processes"]) < 2_000_000_000
    assert f"export PIPELINE_KAFKA_BOOTSTRAP=127.0.0.1:{first.status['ports']['kafka']}" in first.environment
    assert first.outcome == "reserved"


def test_stop_takes_seconds_and_leaves_nothing(story: Story) -> None:
    assert story.first.stop_seconds < STOP_SECONDS
    left = [each for each in story.first.processes if lives(each)]
    assert left == []
    assert story.first.ports_left == []


def test_second_start_goes_on_with_data_and_ports(story: Story) -> None:
    before, now = story.first.status["ports"], story.again.state().ports
    assert {name: now[name] for name in before} == before
    assert story.again.status_of(story.first.order_id) == "reserved"


def test_outcomes_are_copied_and_every_connector_runs(story: Story) -> None:
    stack = story.again
    stack.post(5)
    printed = pipeline(stack.home, "verify", "--sinks", "--wait", "60")
    assert "rows are what the topics say" in printed
    states = re.findall(r"^connector (\S+) +(\S+)", pipeline(stack.home, "status"), flags=re.MULTILINE)
    assert states == [(f"postgres-{name}", "RUNNING") for name in ("failed", "reserved", "volume")]


def test_totals_of_status_stand_through_kills_and_are_unknown_without_the_database(story: Story) -> None:
    """What each worker counts begins at zero again; what `status` shows is no sum of that."""
    stack = story.again

    def totals() -> dict[str, int | None]:
        return dict(json.loads(pipeline(stack.home, "status", "--json"))["totals"])

    def reserved() -> int:
        return totals()["reserved"] or 0

    goal = reserved() + 42
    stack.post(42)
    wait_for(lambda: reserved() == goal, totals)
    for slot in ("0", "1"):
        pipeline(stack.home, "kill", "inventory", "--slot", slot)
        assert reserved() == goal
    with frozen(stack, "postgres"):
        assert totals() == {"reserved": None, "failed": None}
    wait_for(lambda: reserved() == goal, totals)


def test_every_target_is_up_and_status_says_so(watched: Running) -> None:
    port = watched.state().ports["prometheus"]

    def watch() -> prometheus.Watch:
        return prometheus.watch(port) or prometheus.Watch(0, ())

    wait_for(lambda: watch().up > 0 and not watch().down, watch)
    found = {each["metric"]["instance"] for each in watched.ask("up")}
    assert found == {each.label for each in watched.state().processes} - {"postgres", "provision"}
    assert re.search(rf"http://127\.0\.0\.1:{port}: \d+ of {len(found)} targets up", pipeline(watched.home, "status"))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_every_query_of_a_board_returns_data_after_a_hundred_orders(watched: Running, board: Path) -> None:
    def empty() -> list[str]:
        return [f"{title}: {query}" for title, query in queries(board) if not numbers(watched.ask(query))]

    wait_for(lambda: not empty(), lambda: "\n".join(empty()))


def test_lag_of_stopped_workers_is_seen_from_inside_and_outside_and_pages(watched: Running) -> None:
    """Aim: no operator learns it from a customer. Faults: workers that get nowhere, then workers that do not answer.

    Lag is 500 on both sides, alerts fire with words that a person can read, and all of it ends with its cause.
    """

    def lag() -> tuple[float | None, float | None]:
        return watched.value(INSIDE), watched.value(OUTSIDE)

    def stands() -> str | None:
        return watched.shown("GroupStandsStill", group="inventory")

    def gone() -> str | None:
        return watched.shown("ServiceDown", job="inventory")

    wait_for(lambda: lag() == (0, 0), lag)
    with database_closed(watched.home, "inventory_rw"):
        watched.post(500)
        wait_for(lambda: lag() == (500, 500), lag)
        wait_for(lambda: stands() is not None, stands)
        assert re.fullmatch(r"Group inventory does not read orders\.created \d", stands() or "")
        with frozen(watched, "inventory"):
            wait_for(lambda: gone() is not None, gone)
            wait_for(lambda: watched.value(OUTSIDE) == 500, lag)
    wait_for(lambda: lag() == (0, 0), lag)
    wait_for(lambda: (stands(), gone()) == (None, None), lambda: (stands(), gone()))
