"""A worker whose database, registry or broker is away: it pauses or says so, and takes up again by itself."""

import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from socket import create_server
from typing import Self

import pytest

from common.events.orders import OrderCreated
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED, dead_letter_topic
from onceloop.errors import ExitCode
from tests.factories import make_order
from tests.forwarder import Forwarder, forward
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import codec_of, read, wait_for, write, write_orders

DEAD_LETTERS = dead_letter_topic(ORDERS_CREATED, INVENTORY)
REPOSITORY = Path(__file__).parents[2]
SECRET = "hunter2"
SESSION_SECONDS = 6.0
"""A member that does not poll for so long loses its partitions."""
PAUSES_WITHIN_SECONDS = 40.0
"""A frozen server: 12 s for its answer, then 3 s for each connection, until 20 s are over."""


def stocked(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline(partitions=2)
    pipeline.set_stock({"tea": 1000})
    return pipeline


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return stocked(make_pipeline)


def postgres_through(pipeline: Pipeline, forwarder: Forwarder) -> dict[str, str]:
    own = pipeline.env("inventory_rw")["PIPELINE_POSTGRES_URL"]
    head, _, tail = own.rpartition(":")
    return {"PIPELINE_POSTGRES_URL": f"{head}:{forwarder.port}/{tail.partition('/')[2]}"}


def registry_through(pipeline: Pipeline, forwarder: Forwarder) -> dict[str, str]:
    path = pipeline.kafka.registry_url.partition("//")[2].partition("/")[2]
    return {"PIPELINE_REGISTRY_URL": f"http://127.0.0.1:{forwarder.port}/{path}"}


def start_worker(pipeline: Pipeline, env: dict[str, str], *, slot: int = 0) -> Process:
    return pipeline.start("inventory_service", role="inventory_rw", slot=slot, env=env)


def order(pipeline: Pipeline, count: int) -> list[OrderCreated]:
    orders = [make_order(lines=[("tea", 1)], user_id=f"user-{number}") for number in range(count)]
    write_orders(pipeline, orders)
    return orders


def outcomes(pipeline: Pipeline) -> list[str]:
    """Return the order ids of all visible outcomes."""
    seen = read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED)
    return [(each.value or b"")[43:79].decode() for each in seen]  # behind the frame and the event id


def each_has_one_outcome(pipeline: Pipeline, orders: Sequence[OrderCreated]) -> bool:
    found = sorted(outcomes(pipeline))
    assert len(found) == len(set(found))
    return found == sorted(each.order_id for each in orders)


def pausing(worker: Process) -> bool:
    """Return True if the worker lives and says that it is not ready; one that is slow to answer says nothing."""
    assert worker.exit_code is None, worker.output()
    return worker.readiness() is HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Scene:
    """One worker behind a forwarder of its own, in a pipeline of its own."""

    pipeline: Pipeline
    postgres: Forwarder
    worker: Process
    before: Sequence[OrderCreated]

    @classmethod
    def set(cls, pipeline: Pipeline, postgres: Forwarder) -> Self:
        return cls(pipeline, postgres, start_worker(pipeline, postgres_through(pipeline, postgres)), order(pipeline, 3))


def test_worker_sits_out_a_database_outage_in_its_group_and_takes_up_by_itself(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    """Aim: H28. Fault: PostgreSQL refuses connections to one worker, and freezes with the connection of another open,
    for longer than the group's session. Each must pause (not ready), stay a member, lose and dead-letter nothing, and
    answer each order once when the database is back. Two pipelines, so that both outages cost the time of one."""
    with ExitStack() as opened:
        scenes = [
            Scene.set(pipeline, opened.enter_context(forward(pipeline.settings.postgres_admin_url)))
            for pipeline in (stocked(make_pipeline), stocked(make_pipeline))
        ]
        refused, frozen = scenes
        for scene in scenes:
            wait_for(partial(each_has_one_outcome, scene.pipeline, scene.before), what="the outcomes before")
        refused.postgres.cut()
        frozen.postgres.freeze()
        began = time.monotonic()
        during = {scene.pipeline.namespace: order(scene.pipeline, 30) for scene in scenes}
        for scene in scenes:
            wait_for(partial(pausing, scene.worker), seconds=PAUSES_WITHIN_SECONDS, what="a worker that pauses")
        wait_for(lambda: time.monotonic() - began > SESSION_SECONDS + 1, what="an outage longer than the session")
        for scene in scenes:
            assert pausing(scene.worker)
            assert each_has_one_outcome(scene.pipeline, scene.before)
            scene.postgres.heal()
        for scene in scenes:
            expected = [*scene.before, *during[scene.pipeline.namespace]]
            wait_for(partial(each_has_one_outcome, scene.pipeline, expected), what="all outcomes")
            scene.worker.wait_ready()
            assert scene.worker.stop() == 0
            assert read(scene.pipeline, DEAD_LETTERS) == []
            assert scene.pipeline.available() == {"tea": 1000 - 33}
            assert scene.worker.output().count('"cause": "assignment"') == 1  # joined once, and stayed


def test_worker_needs_no_registry_for_orders__and_waits_for_it_before_it_judges_a_foreign_schema(
    pipeline: Pipeline,
) -> None:
    """Fault: the registry goes away while the worker runs. A record whose schema cannot be looked up is no bad record:
    it is judged once the registry is back."""
    with forward(pipeline.kafka.registry_url) as registry:
        worker = start_worker(pipeline, registry_through(pipeline, registry)).wait_ready()
        registry.cut()
        before = order(pipeline, 5)
        wait_for(lambda: each_has_one_outcome(pipeline, before), what="outcomes without a registry")
        value = struct.pack(">bI", 0, 2_000_000_001) + codec_of(pipeline).encode(make_order())[5:]
        write(pipeline, ORDERS_CREATED, [(b"ada", value)], partition=0)
        wait_for(partial(pausing, worker), what="a worker that waits")
        assert read(pipeline, DEAD_LETTERS) == []
        registry.heal()
        wait_for(lambda: len(read(pipeline, DEAD_LETTERS)) == 1, what="the dead letter")
        behind = order(pipeline, 5)
        wait_for(lambda: each_has_one_outcome(pipeline, [*before, *behind]), what="the outcomes behind it")
        assert worker.stop() == 0


def test_worker_that_finds_a_part_away_at_start_ends_with_75_naming_it__and_works_once_it_is_back(
    pipeline: Pipeline,
) -> None:
    """Three workers, each with another part away, in slots of their own; then one with all three parts back."""
    orders = order(pipeline, 3)
    with (
        forward(pipeline.settings.postgres_admin_url, cut=True) as postgres,
        forward(pipeline.kafka.registry_url, cut=True) as registry,
        forward(pipeline.kafka.kafka_bootstrap, cut=True) as kafka,
    ):
        away = {
            "PostgreSQL": postgres_through(pipeline, postgres),
            "PIPELINE_REGISTRY_URL": registry_through(pipeline, registry),
            "PIPELINE_KAFKA_BOOTSTRAP": {"PIPELINE_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka.port}"},
        }
        workers = {
            named: start_worker(pipeline, env, slot=slot) for slot, (named, env) in enumerate(away.items(), start=1)
        }
        for named, worker in workers.items():
            assert worker.wait(timeout_seconds=40) == ExitCode.UNAVAILABLE
            last = worker.output().splitlines()[-1]
            assert "process.ended" in last
            assert named in last
            assert "Traceback" not in worker.output()
        for forwarder in (postgres, registry, kafka):
            forwarder.heal()
        again = start_worker(pipeline, {name: value for env in away.values() for name, value in env.items()})
        wait_for(lambda: each_has_one_outcome(pipeline, orders), what="the outcomes")
        assert again.stop() == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PIPELINE_KAFKA_BOOTSTRAP", "", "PIPELINE_KAFKA_BOOTSTRAP=127.0.0.1:9092"),
        (
            "PIPELINE_POSTGRES_URL",
            f"postgresql://rw:{SECRET}@127.0.0.1/pipeline",
            "PIPELINE_POSTGRES_URL=postgresql://",
        ),
        ("PIPELINE_KAFKA_CONSUMER_OPTIONS", '{"isolation.level": "read_uncommitted"}', "must be read_committed"),
        ("PIPELINE_KAFKA_PRODUCER_OPTIONS", '{"no.such.option": 1}', "no.such.option"),
    ],
)
def test_wrong_setting_ends_with_78_before_any_connection(name: str, value: str, message: str) -> None:
    with ExitStack() as opened:
        listeners = [opened.enter_context(create_server(("127.0.0.1", 0))) for _ in range(3)]
        kafka, registry, postgres = (listener.getsockname()[1] for listener in listeners)
        settings = {
            "PIPELINE_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka}",
            "PIPELINE_REGISTRY_URL": f"http://127.0.0.1:{registry}",
            "PIPELINE_POSTGRES_URL": f"postgresql://inventory_rw@127.0.0.1:{postgres}/pipeline",
            name: value,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "inventory_service"],
            env={**bare_environment(), **settings},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == ExitCode.CONFIG
        assert message in ended.stderr
        assert "PIPELINE_" in ended.stderr
        assert SECRET not in ended.stderr + ended.stdout
        assert "Traceback" not in ended.stderr + ended.stdout
        for listener in listeners:
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


def bare_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
