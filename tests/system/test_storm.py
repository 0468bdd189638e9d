"""The whole pipeline as a user starts it, while its workers are shot again and again."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

ORDERS = 300
STORM_SECONDS = 12.0
SHOTS_AT = (60, 120, 180, 240)
"""Both workers are shot each time so many orders are placed, about every 3 s."""
UP_SECONDS = 120
TRIES_MAX = 5


class Stack:
    """A stack in a folder of its own, driven by the command line alone."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def pipeline(self, *arguments: str, check: bool = True) -> str:
        command = [sys.executable, "-m", "deploy.cli.main", *arguments, "--home", str(self._home)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=UP_SECONDS, check=False)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.pipeline("status", "--json"))
        return found

    def api(self) -> str:
        return f"http://127.0.0.1:{self.status()['ports']['api']}"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    running = Stack(tmp_path / "home")
    try:
        running.pipeline("up", "--detach")
        yield running
    finally:
        running.pipeline("down", "--volumes", check=False)


def place(api: str, number: int) -> str:
    """Place an order as a client should: 503 means "perhaps", and the same key again makes it sure."""
    body = {"user_id": f"user-{number % 40}", "lines": [{"sku": "tea", "quantity": 1}, {"sku": "mug", "quantity": 1}]}
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{api}/orders",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": f"storm-{number}"},
    )
    for _ in range(TRIES_MAX):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
                order_id: str = json.load(answer)["order_id"]
                return order_id
        except urllib.error.HTTPError as refused:
            if refused.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            time.sleep(float(refused.headers["Retry-After"]))
    raise AssertionError(f"order {number} was not accepted in {TRIES_MAX} tries")


def test_orders_survive_a_storm_of_kills_and_a_restart_of_everything(stack: Stack) -> None:
    """Aim: the promise of the README. Fault: both workers get SIGKILL every 3 s while orders come in over HTTP.

    Must hold: every accepted order has one outcome, one notification and its status; the books balance; after a stop
    and a second start of everything they still do.
    """
    stack.pipeline("stock", "add", "tea", str(ORDERS))
    stack.pipeline("stock", "add", "mug", str(ORDERS))
    api, started = stack.api(), time.monotonic()
    placed = []

    def shoot() -> None:
        for slot in ("0", "1"):
            stack.pipeline("kill", "inventory", "--slot", slot, check=False)  # it may be down already

    with ThreadPoolExecutor(1, "shooter") as shooter:
        shots = []
        for number in range(ORDERS):
            placed.append(place(api, number))
            if len(placed) in SHOTS_AT:
                shots.append(shooter.submit(shoot))
            time.sleep(max(0.0, started + number * STORM_SECONDS / ORDERS - time.monotonic()))
    for shot in shots:
        shot.result()

    restarts = {p["name"]: 0 for p in stack.status()["processes"]}
    for process in stack.status()["processes"]:
        restarts[process["name"]] += process["restarts"]
    assert restarts["inventory"] >= 4, "the storm hit"
    assert len(set(placed)) == ORDERS
    stack.pipeline("verify", "--wait", "60")

    stack.pipeline("down")
    stack.pipeline("up", "--detach")
    with urllib.request.urlopen(f"{stack.api()}/orders/{placed[0]}", timeout=10) as answer:  # noqa: S310 - loopback
        assert json.load(answer)["status"] == "reserved"
    stack.pipeline("verify")
