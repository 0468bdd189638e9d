"""Version 2 of OrderCreated comes while version 1 runs, and goes again: readers first, and writers first.

The releases are the tree, and the tree with docs/examples/order-created-v2.patch; real processes of both, one pipeline.
Both APIs run all the time, and orders go to the one that is deployed; the worker is replaced in its slot, each time
with orders waiting that it has not seen.
"""

import json
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from common.events.codec import Codec
from common.events.inventory import InventoryReserved
from common.events.orders import OrderCreated, OrderLine
from common.topics import INVENTORY_RESERVED, ORDERS_CREATED
from tests.api import Api, new_user
from tests.pipeline import Pipeline, open_pipeline
from tests.processes import Process
from tests.records import codec_of, read, wait_for
from tests.release import ROOT, Release, patched
from tests.stack import Stack
from tests.system.workers import assert_sound

pytestmark = pytest.mark.xdist_group("rollout")  # one scene for all

PATCH = ROOT / "docs/examples/order-created-v2.patch"
READERS_FIRST = ((1, 1), (1, 2), (2, 2), (2, 1), (1, 1))
WRITERS_FIRST = ((1, 1), (2, 1), (2, 2), (1, 2), (1, 1))
LINES = (OrderLine("tea", 2),)
SMALL = {"PIPELINE_HTTP_WORKERS": "1", "PIPELINE_HTTP_THREADS": "4"}


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that was confirmed."""

    key: str
    user_id: str
    order_id: str


@dataclass(slots=True)
class Scene:
    """A pipeline with both releases."""

    pipeline: Pipeline
    codec: Codec
    releases: dict[int, Release]
    apis: dict[int, Api]
    worker: Process | None = None
    worker_version: int = 0
    placed: list[Placed] = field(default_factory=list)

    def deploy(self, *, api: int, worker: int) -> None:
        """Let orders come in through this version of the API, and this version of the worker answer them."""
        if worker == self.worker_version:
            self.place(api)
            return
        if self.worker is not None:
            assert self.worker.stop() == 0
        self.place(api)
        self.worker = self.pipeline.start("inventory_service", role="inventory_rw", env=self.releases[worker].env)
        self.worker_version = worker
        self.place(api)

    def place(self, version: int) -> None:
        """Place two orders, the second with what only version 2 knows, if this is version 2."""
        for extra in ({}, {"currency": "USD", "note": "ring twice"} if version == 2 else {}):
            user_id, key = new_user(), f"k{len(self.placed)}"
            self.placed.append(Placed(key, user_id, self.ask(version, key, user_id, **extra)))

    def ask(self, version: int, key: str, user_id: str, **extra: str) -> str:
        """Return the order id that this version's API gives to the order under the key."""
        body = {"user_id": user_id, "lines": [{"sku": line.sku, "quantity": line.quantity} for line in LINES], **extra}
        answer = self.apis[version].post(json.dumps(body), Idempotency_Key=key)
        assert answer.status == 202, answer
        return str(answer.json["order_id"])

    def wait_decided(self) -> None:
        """Wait until every order has its decision; the events are looked at when all steps are done."""
        with self.pipeline.administer() as connection:
            wait_for(
                lambda: connection.scalar(sa.text("SELECT count(*) FROM inventory.decision")) == len(self.placed),
                what="a decision per order",
            )

    def reserved(self) -> list[str]:
        """Return the order of every visible event, each of which must hold its order's lines."""
        events = [self.codec.decode(InventoryReserved, seen.value) for seen in read(self.pipeline, INVENTORY_RESERVED)]
        assert {event.lines for event in events} <= {LINES}
        return sorted(event.order_id for event in events)


@pytest.fixture(scope="module")
def scene(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("rollout")
    with ExitStack() as opened:
        pipeline = opened.enter_context(open_pipeline(servers, logs=folder, partitions=2))
        pipeline.set_stock({"tea": 1_000})
        releases = {1: Release(), 2: patched(PATCH, folder / "release-2")}
        releases[2].run("schemas", "register", env={"PIPELINE_REGISTRY_URL": pipeline.kafka.registry_url})
        processes = {
            version: pipeline.start("order_service", "api", role="order_rw", env={**SMALL, **release.env})
            for version, release in releases.items()
        }
        apis = {version: Api(process.wait_ready(process.http_url).http_url) for version, process in processes.items()}
        yield Scene(pipeline, codec_of(pipeline), releases, apis)


@pytest.mark.parametrize("way", [READERS_FIRST, WRITERS_FIRST], ids=["readers first", "writers first"])
def test_version_comes_and_goes_while_orders_flow(scene: Scene, way: tuple[tuple[int, int], ...]) -> None:
    """Aim: no order lost, doubled or dead-lettered at any step of a rollout and of its way back."""
    for api, worker in way:
        scene.deploy(api=api, worker=worker)
        scene.wait_decided()
    assert_sound(scene.pipeline, orders=len(scene.placed))
    assert scene.reserved() == sorted(placed.order_id for placed in scene.placed)


def test_topic_holds_both_versions_and_either_release_reads_them(scene: Scene) -> None:
    """The tree, which is version 1, reads all of them as its own."""
    scene.place(1)
    scene.place(2)
    seen = read(scene.pipeline, ORDERS_CREATED)
    assert len({struct.unpack_from(">bI", one.value or b"")[1] for one in seen}) == 2
    orders = {order.order_id: order for order in (scene.codec.decode(OrderCreated, one.value) for one in seen)}
    assert {order_id: (order.user_id, order.lines) for order_id, order in orders.items()} == {
        placed.order_id: (placed.user_id, LINES) for placed in scene.placed
    }


@pytest.mark.parametrize("asked_again_by", [1, 2])
def test_key_gives_the_same_order_whichever_release_is_asked_again(scene: Scene, asked_again_by: int) -> None:
    """Fault: the mark that the broker acknowledged is taken back, so that the release that is asked must send the
    stored bytes of the other one again."""
    scene.place(3 - asked_again_by)
    placed = scene.placed[-2]  # with nothing that only one of them knows
    with scene.pipeline.administer() as connection:
        connection.execute(
            sa.text("UPDATE orders.idempotency_key SET acknowledged_at = NULL WHERE user_id = :user_id"),
            {"user_id": placed.user_id},
        )
    before = len(read(scene.pipeline, ORDERS_CREATED))
    assert scene.ask(asked_again_by, placed.key, placed.user_id) == placed.order_id
    assert len(read(scene.pipeline, ORDERS_CREATED)) == before + 1
