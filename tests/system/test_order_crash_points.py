"""Kill the API's worker at every named point under load; a client that repeats a request with its key gets one order.

One pipeline for all points, with an inventory worker, so that the checker can judge all orders since the first. Workers
recycle all the time: requests meet processes that come and go.
"""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from chaos.run.plan import Action, Arm, read_evidence, write_plan
from common.topics import ORDERS_CREATED
from tests.api import Api, new_user
from tests.pipeline import Pipeline, open_pipeline
from tests.processes import Process
from tests.records import read, wait_for
from tests.stack import Stack
from tests.system.workers import assert_sound

CLIENTS = 6
ORDERS_EACH = 8
TRIES_MAX = 100
WORKERS = 2
REQUESTS_MAX = 30
"""A worker's, give or take its jitter of a tenth: the 96 requests of a point take at least one worker there."""


@dataclass(slots=True)
class Scene:
    """An API under the chaos launcher, and what it answered its clients: the order of each key."""

    pipeline: Pipeline
    process: Process
    plan: Path
    evidence: Path
    answered: dict[tuple[str, str], str] = field(default_factory=dict)

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def fired(self, arm: Arm) -> int | None:
        """Return the process that the arm hit, or None so far."""
        return next((line.pid for line in read_evidence(self.evidence) if line.arm == arm.id), None)

    def confirmed(self) -> dict[str, str]:
        """Return the user of each order that a client was answered with."""
        return {order_id: user for (user, _), order_id in self.answered.items()}

    def on_topic(self) -> dict[str, str]:
        """Return the user of each order on the topic."""
        return {
            seen.headers["ce_id"].decode(): (seen.key or b"").decode() for seen in read(self.pipeline, ORDERS_CREATED)
        }

    def load(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        """Have clients place orders, each until it is confirmed, and each once more."""
        return [pool.submit(self._shop) for _ in range(CLIENTS)]

    def stop_a_worker(self, arm: Arm) -> None:
        """Send SIGTERM until one worker comes to its end by it: the first may be on its way out by its count."""
        wait_for(lambda: bool(self.answered), what="the first order")

        def stopped() -> bool:
            if self.fired(arm) is None:
                with suppress(psutil.NoSuchProcess, ValueError):
                    psutil.Process(min(self.workers())).terminate()
                return False
            return True

        wait_for(stopped, what=f"the hit of {arm.point}")

    def _shop(self) -> None:
        api, user = Api(self.process.http_url), new_user()
        for number in range(ORDERS_EACH):
            key = f"k{number}"
            first, again = insist(api, user, key), insist(api, user, key)
            assert first == again, "one key, two orders"
            self.answered[user, key] = first


def insist(api: Api, user: str, key: str) -> str:
    """Repeat the request until it is confirmed, whatever happens to connections; return the order id."""
    for _ in range(TRIES_MAX):
        with suppress(OSError, http.client.HTTPException):
            answer = api.place(user, key=key)
            if answer.status == http.client.ACCEPTED:
                return str(json.loads(answer.body)["order_id"])
            assert answer.status == http.client.SERVICE_UNAVAILABLE, answer
    raise AssertionError("never confirmed")


@pytest.fixture(scope="module")
def scene(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("order-crash-points")
    plan, evidence = folder / "plan.json", folder / "fired.jsonl"
    write_plan(plan, [])
    with ExitStack() as opened:
        pipeline = opened.enter_context(open_pipeline(servers, logs=folder))
        pipeline.set_stock({"tea": 1_000_000})
        inventory = pipeline.start("inventory_service", role="inventory_rw")
        env = {
            "CHAOS_PLAN": str(plan),
            "CHAOS_EVIDENCE": str(evidence),
            "PIPELINE_HTTP_WORKERS": str(WORKERS),
            "PIPELINE_HTTP_REQUESTS_MAX": str(REQUESTS_MAX),
            "PIPELINE_HTTP_THREADS": "8",
        }
        process = pipeline.start("chaos.run.launch", "order_service", "api", role="order_rw", env=env)
        process.wait_ready(process.http_url)
        inventory.wait_ready()
        yield Scene(pipeline, process, plan, evidence)


@pytest.mark.parametrize(
    "point", ["parsed", "key.stored", "produced", "acked", "key.marked", "responding", "recycle", "stop"]
)
def test_one_order_per_key_when_a_worker_is_killed(scene: Scene, point: str) -> None:
    """Aim: S1, S2, S4. Fault: SIGKILL of the one worker that passes the point, under load. Every client gets its order
    by insisting, every confirmed order is on the topic, nothing else is, and the master replaces the worker."""
    arm = Arm(point=f"order:{point}", action=Action.KILL, hit=1 if point in {"recycle", "stop"} else 5)
    write_plan(scene.plan, [arm])
    with ThreadPoolExecutor(CLIENTS) as pool:
        shopping = scene.load(pool)
        if point == "stop":
            scene.stop_a_worker(arm)
        for client in shopping:
            client.result()
    wait_for(lambda: scene.fired(arm) is not None, what=f"the hit of {arm.point}")

    killed = scene.fired(arm)
    assert scene.process.exit_code is None, "the master goes on"
    wait_for(lambda: len(scene.workers()) == WORKERS and killed not in scene.workers(), what="a new worker")
    assert scene.on_topic() == scene.confirmed()
    assert len(scene.confirmed()) == len(scene.answered), "one order, two keys"
    assert_sound(scene.pipeline, orders=len(scene.answered))
