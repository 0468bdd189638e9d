"""`pipeline up` as a user runs it: all servers and services, in the background, stopped, and started again."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import home as homes
from deploy.local import ports, state
from deploy.local.guardian import lives
from deploy.local.home import Home

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

OUTCOME_SECONDS = 20.0
STOP_SECONDS = 10.0
ORDER = '{"user_id": "ada", "lines": [{"sku": "tea", "quantity": 2}]}'


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    place = homes.at(tmp_path / "stack")
    yield place
    if place.root.exists():
        pipeline(place, "down", "--volumes")


def pipeline(home: Home, command: str, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", command, "--home", str(home.root), *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def ask(port: int, path: str, body: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def outcome(port: int, order_id: str) -> str:
    deadline = time.monotonic() + OUTCOME_SECONDS
    while (status := ask(port, f"/orders/{order_id}")["status"]) == "pending" and time.monotonic() < deadline:
        time.sleep(0.05)
    return str(status)


def everything_of(home: Home) -> list[psutil.Process]:
    stack = state.current(home)
    assert stack is not None
    tops = [psutil.Process(pid) for pid in (stack.pid, *(each.pid for each in stack.processes)) if pid]
    return [each for top in tops for each in (top, *top.children(recursive=True))]


def test_order_is_reserved_and_known_after_a_second_start(home: Home) -> None:
    """Aim: the README's first minutes. Everything stops within ten seconds, frees its ports, and comes back."""
    said = pipeline(home, "up", "--detach")
    assert "stack ready" in said
    assert "\x1b" not in said
    stack = json.loads(pipeline(home, "status", "--json"))
    assert {each["state"] for each in stack["processes"]} == {"ready", "done"}
    assert f"localhost:{stack['ports']['api']}/orders" in said
    assert sum(each["memory_bytes"] for each in stack["processes"]) < 2_000_000_000
    order_id = ask(stack["ports"]["api"], "/orders", ORDER)["order_id"]
    assert outcome(stack["ports"]["api"], order_id) == "reserved"
    assert f"export PIPELINE_KAFKA_BOOTSTRAP=127.0.0.1:{stack['ports']['kafka']}" in pipeline(home, "env")

    ran, began = everything_of(home), time.monotonic()
    pipeline(home, "down")
    assert time.monotonic() - began < STOP_SECONDS
    assert not [each for each in ran if lives(each)]
    assert all(ports.is_free(port) for port in stack["ports"].values())

    pipeline(home, "up", "--detach")
    again = json.loads(pipeline(home, "status", "--json"))
    assert again["ports"] == stack["ports"]
    assert ask(again["ports"]["api"], f"/orders/{order_id}")["status"] == "reserved"
    pipeline(home, "down", "--volumes")
    assert not home.root.exists()
