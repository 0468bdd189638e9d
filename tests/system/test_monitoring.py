"""`pipeline up --with monitoring` as a user runs it: everything answers, boards have data, an alert fires and ends."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from deploy.local import home as homes
from deploy.local import prometheus, servers, state
from deploy.local.home import Home
from tests.monitoring import ALERTS, BOARDS, needs, queries

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

SECONDS_MAX = 60.0
POSTING = 8
INSIDE = 'sum(kafka_consumer_lag_records{group="inventory"})'
OUTSIDE = 'sum(kafka_group_lag_records{group="inventory"})'


@dataclass(frozen=True, slots=True)
class Watched:
    """A stack with its Prometheus."""

    home: Home

    def port(self, name: str) -> int:
        return self.state().ports[name]

    def state(self) -> state.StackState:
        found = state.current(self.home)
        assert found is not None
        return found

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return what Prometheus answers to a query now: labels and values."""
        answer = self._get(f"/api/v1/query?query={quote(query)}")
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def value(self, query: str) -> float | None:
        result = self.ask(query)
        return float(result[0]["value"][1]) if result else None

    def told(self, alert: str, **labels: str) -> str | None:
        """Return the summary of an alert if it fires with these labels."""
        wanted = {"alertname": alert, **labels}.items()
        alerts = self._get("/api/v1/alerts")["data"]["alerts"]
        found = (each for each in alerts if each["state"] == "firing" and wanted <= each["labels"].items())
        return next((each["annotations"]["summary"] for each in found), None)

    def post(self, orders: int) -> None:
        """Post so many orders, several at a time, each accepted."""
        with ThreadPoolExecutor(POSTING) as pool:
            list(pool.map(self._post, [range(first, orders, POSTING) for first in range(POSTING)]))

    def _post(self, users: range) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port("api"), timeout=10)
        for user in users:
            order = {"user_id": f"user-{user}", "lines": [{"sku": "tea", "quantity": 1}]}
            connection.request("POST", "/orders", json.dumps(order), {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            assert response.status == 202
        connection.close()

    def _get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port("prometheus"), timeout=10)
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A whole stack that has seen a hundred orders; its Prometheus looks each second, its alerts wait for one."""
    needs("prometheus")
    home = homes.at(tmp_path_factory.mktemp("watched") / "stack")
    try:
        pipeline(home, "up", "--detach", "--with", "monitoring", "--inventory", "1")
        watched = Watched(home)
        hurry(watched)
        watched.post(50)
        # A count begins with its first event: only what comes after a look at that is a rate.
        wait_for(lambda: bool(watched.ask("kafka_batch_seconds_count")), lambda: "no batch was seen")
        watched.post(50)
        yield watched
    finally:
        pipeline(home, "down", "--volumes")


def pipeline(home: Home, command: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", command, "--home", str(home.root), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"NO_COLOR": "1", "PIPELINE_EXPORTER_SECONDS": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def hurry(watched: Watched) -> None:
    """Shorten every wait of the rules; what they look at stays the same."""
    (process,) = (each for each in watched.state().processes if each.name == "prometheus")
    program = prometheus.Prometheus(watched.home, 0, ())
    folder = program.settings.parent
    rules = re.sub(r"for: \w+", "for: 1s", ALERTS.read_text(encoding="utf-8")).replace("[1m]", "[4s]")
    (folder / "hurried.yml").write_text(rules)
    program.settings.write_text(prometheus.settings_text(folder / "hurried.yml", folder / "targets.json", seconds=1))
    os.kill(process.pid, signal.SIGHUP)


def wait_for(condition: Callable[[], bool], told: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


@contextmanager
def database_closed(home: Home, role: str) -> Iterator[None]:
    """Let nobody in as the role: its workers live, and get nowhere."""
    with psycopg.connect(servers.addresses_of(home).postgres_dsn(), autocommit=True) as connection:
        limit = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format
        connection.execute(limit(sql.Identifier(role), 0))
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
        try:
            yield
        finally:
            connection.execute(limit(sql.Identifier(role), -1))


@contextmanager
def frozen(watched: Watched, service: str) -> Iterator[None]:
    pids = [each.pid for each in watched.state().processes if each.name == service]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_every_target_is_up_and_status_says_so(stack: Watched) -> None:
    port = stack.port("prometheus")

    def watch() -> prometheus.Watch:
        return prometheus.watch(port) or prometheus.Watch(0, ())

    wait_for(lambda: watch().up > 0 and not watch().down, watch)
    jobs = {each["metric"]["job"] for each in stack.ask("up")}
    ours = {each.name for each in stack.state().processes} - {"postgres", "provision"}
    assert jobs == ours
    assert re.search(rf"http://127\.0\.0\.1:{port}: \d+ of {len(jobs)} targets up", pipeline(stack.home, "status"))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_every_query_of_a_board_returns_data_after_a_hundred_orders(stack: Watched, board: Path) -> None:
    def empty() -> list[str]:
        return [f"{title}: {query}" for title, query in queries(board) if not numbers(stack.ask(query))]

    wait_for(lambda: not empty(), lambda: "\n".join(empty()))


def numbers(result: list[dict[str, Any]]) -> list[str]:
    return [each["value"][1] for each in result if each["value"][1] != "NaN"]


def test_lag_of_stopped_workers_is_seen_from_inside_and_outside_and_pages_somebody(stack: Watched) -> None:
    """Aim: nobody finds out from a customer. Faults: workers that get nowhere, then workers that do not answer either.

    Lag is 500 on both sides, alerts fire with words that a person can read, and all of it ends with its cause.
    """

    def lag() -> tuple[float | None, float | None]:
        return stack.value(INSIDE), stack.value(OUTSIDE)

    def stands() -> str | None:
        return stack.told("GroupStandsStill", group="inventory")

    def gone() -> str | None:
        return stack.told("ServiceDown", job="inventory")

    wait_for(lambda: lag() == (0, 0), lag)
    with database_closed(stack.home, "inventory_rw"):
        stack.post(500)
        wait_for(lambda: lag() == (500, 500), lag)
        wait_for(lambda: stands() is not None, stands)
        assert re.fullmatch(r"Group inventory does not read orders\.created \d", stands() or "")
        with frozen(stack, "inventory"):
            wait_for(lambda: gone() is not None, gone)
            wait_for(lambda: stack.value(OUTSIDE) == 500, lag)
    wait_for(lambda: lag() == (0, 0), lag)
    wait_for(lambda: (stands(), gone()) == (None, None), lambda: (stands(), gone()))
