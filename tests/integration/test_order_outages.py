"""What the API answers while a part of the world is away, and that it comes back by itself."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest
import sqlalchemy as sa
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from common.topics import ORDERS_CREATED
from onceloop.kafka.options import admin_options
from tests.api import Api, behind, new_user, running_api, start_projection
from tests.forwarder import Forwarder, forward
from tests.pipeline import Pipeline, open_pipeline
from tests.records import Seen, read, wait_for
from tests.stack import Stack

THREADS = 8


@pytest.fixture(scope="module")
def pipeline(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """One for all tests of this module: users keep them apart, and each starts an API of its own."""
    with open_pipeline(servers, logs=tmp_path_factory.mktemp("outages")) as opened:
        yield opened


@pytest.fixture
def postgres(pipeline: Pipeline) -> Iterator[Forwarder]:
    with forward(pipeline.settings.postgres_admin_url) as forwarder:
        yield forwarder


def records(pipeline: Pipeline, user_id: str) -> list[Seen]:
    return [seen for seen in read(pipeline, ORDERS_CREATED) if seen.key == user_id.encode()]


def keys(pipeline: Pipeline) -> dict[str, str]:
    """Return user -> order id of all keys."""
    with pipeline.connect("reader") as connection:
        rows = connection.execute(sa.text("SELECT user_id, order_id::text FROM orders.idempotency_key"))
        return {row.user_id: row.order_id for row in rows}


@pytest.mark.parametrize("outage", ["refused", "silent"])
def test_broker_down_means_maybe_within_six_seconds_and_a_retry_gives_one_order(
    pipeline: Pipeline, outage: str
) -> None:
    """Aim: S1, S3. Fault: the broker refuses, or takes the connection and stays silent. Nothing may be acknowledged
    meanwhile, and the retry must give the order that the first attempt began."""
    with forward(pipeline.settings.kafka_bootstrap, cut=True) as broker:
        if outage == "silent":
            broker.hold()
        with running_api(pipeline, {"PIPELINE_KAFKA_BOOTSTRAP": f"127.0.0.1:{broker.port}"}, ready=False) as (api, _):
            wait_for(lambda: listens(api) and "schema" not in api.get("/readyz").json["missing"], what="the schema")
            user = new_user()
            started = time.monotonic()
            answer = api.place(user, key="k")
            assert (answer.status, answer.problem) == (503, "outcome-unknown")
            assert time.monotonic() - started < 6
            assert int(answer.headers["retry-after"]) > 0
            assert "Idempotency-Key" in answer.json["detail"]
            assert api.get("/readyz").status == 503
            assert records(pipeline, user) == []

            broker.heal()
            wait_for(lambda: api.get("/readyz").status == 200, what="readiness")
            again = api.place(user, key="k")
    assert (again.status, again.json["order_id"]) == (202, keys(pipeline)[user])
    assert [each.headers.get("idempotent-replayed") for each in (answer, again)] == [None, "true"]
    assert {seen.headers["ce_id"] for seen in records(pipeline, user)} == {again.json["order_id"].encode()}


@pytest.mark.parametrize(
    ("rule", "why", "ready"),
    [
        ({"message.timestamp.before.max.ms": "0"}, "clocks", False),
        ({"max.message.bytes": "100"}, "larger", True),
    ],
    ids=["a clock that differs", "too large"],
)
def test_order_that_the_broker_refuses_is_not_accepted__and_is_once_the_cause_is_gone(
    pipeline: Pipeline, rule: dict[str, str], why: str, *, ready: bool
) -> None:
    """Aim: S1, S3. Fault: the broker refuses the record before it writes it, as it does where this clock is hours off.
    It was reported as "may or may not have been accepted"; and the service stayed ready."""
    user = new_user()
    # A refusal that comes late on a busy machine would be "maybe", since it might answer a second attempt.
    patient = {"PIPELINE_KAFKA_PRODUCER_OPTIONS": '{"retry.backoff.ms": 3000, "retry.backoff.max.ms": 3000}'}
    patient["PIPELINE_HTTP_WORKERS"] = "2"  # which are asked for readiness by turns
    with running_api(pipeline, patient) as (api, _):
        assert api.place(new_user()).status == 202
        with topic_rule(pipeline, rule):
            wait_for(lambda: api.place(new_user()).status == 503, what="the broker's refusals")
            answer = api.place(user, key="k")
            assert (answer.status, answer.problem) == (503, "not-accepted")
            assert why in answer.json["detail"]
            assert int(answer.headers["retry-after"]) > 0
            assert {api.get("/readyz").status == 200 for _ in range(20)} == {ready}
            assert records(pipeline, user) == []
            repeated = api.place(user, key="k")
            assert (repeated.status, repeated.problem) == (503, "outcome-unknown")
            assert why in repeated.json["detail"]
        wait_for(lambda: api.place(user, key="k").status == 202, what="the order under the same key")
        again = api.place(user, key="k")
        assert api.get("/readyz").status == 200
    assert again.json["order_id"] == keys(pipeline)[user]
    assert {seen.headers["ce_id"] for seen in records(pipeline, user)} == {again.json["order_id"].encode()}


@contextmanager
def topic_rule(pipeline: Pipeline, rule: dict[str, str]) -> Iterator[None]:
    """Have the broker keep this rule for `orders.created`, for the time of the block."""
    name = ORDERS_CREATED.within(pipeline.namespace)
    client = AdminClient(admin_options(pipeline.kafka.kafka))

    def alter(operation: AlterConfigOpType) -> None:
        entries = [ConfigEntry(option, value, incremental_operation=operation) for option, value in rule.items()]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        for future in client.incremental_alter_configs([resource]).values():
            future.result(10)

    alter(AlterConfigOpType.SET)
    try:
        yield
    finally:
        alter(AlterConfigOpType.DELETE)


def test_database_down_leaves_orders_without_a_key_and_comes_back(pipeline: Pipeline, postgres: Forwarder) -> None:
    projection = start_projection(pipeline)
    with running_api(pipeline, behind(pipeline, postgres)) as (api, process):
        projection.wait_ready()
        before = api.place(new_user(), key="k").headers["location"]

        postgres.cut()
        user = new_user()
        without = api.place(user)
        assert without.status == 202, process.output()
        waiting = api.place(Prefer="wait=2")
        assert waiting.status == 202, "the order is accepted although its outcome is unknown"
        for answer in (api.place(user, key="k"), api.get(before), api.get(f"/orders?user_id={user}")):
            assert (answer.status, answer.problem) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert set(api.get("/readyz").json["missing"]) == {"database"}
        assert api.get("/livez").status == 200

        postgres.heal()
        assert api.place(user, key="k").status == 202
        assert api.get(before).status == 200
        assert api.get(without.headers["location"]).status == 200
        assert api.get("/readyz").status == 200


def test_frozen_database_holds_no_thread_for_ever(pipeline: Pipeline, postgres: Forwarder) -> None:
    """Fault: the server acknowledges every byte and answers none, as one that is stopped does. Time-outs that it keeps
    itself are worth nothing then, and requests without a key must find a thread after the others gave up."""
    with running_api(pipeline, behind(pipeline, postgres)) as (api, _):
        assert api.place(key="k").status == 202
        postgres.freeze()
        started = time.monotonic()
        with ThreadPoolExecutor(THREADS) as pool:
            answers = [future.result() for future in [pool.submit(api.place, key="k") for _ in range(THREADS)]]
        assert {answer.problem for answer in answers} == {"unavailable"}
        assert api.place().status == 202
        assert time.monotonic() - started < 12
        postgres.heal()
        wait_for(lambda: api.place(key="k").status == 202, what="an order with a key")


def test_registry_down_at_start_is_said_and_passes_by_itself(pipeline: Pipeline) -> None:
    at = urlsplit(pipeline.settings.registry_url)
    with (
        forward(at.netloc, cut=True) as registry,
        running_api(pipeline, {"PIPELINE_REGISTRY_URL": f"http://127.0.0.1:{registry.port}{at.path}"}, ready=False) as (
            api,
            process,
        ),
    ):
        wait_for(lambda: listens(api) and set(api.get("/readyz").json["missing"]) == {"schema"}, what="the reason")
        assert api.get("/livez").status == 200
        answer = api.place()
        assert (answer.status, answer.problem) == (503, "unavailable")
        registry.heal()
        process.wait_ready(process.http_url)
        assert api.place().status == 202


def test_database_down_at_start_is_said_and_passes_by_itself(pipeline: Pipeline, postgres: Forwarder) -> None:
    postgres.cut()
    with running_api(pipeline, behind(pipeline, postgres), ready=False) as (api, process):
        wait_for(lambda: listens(api) and set(api.get("/readyz").json["missing"]) == {"database"}, what="the reason")
        assert api.place().status == 202
        postgres.heal()
        process.wait_ready(process.http_url)
        assert api.place(key="k").status == 202


def test_killed_worker_is_replaced_and_other_clients_go_on(pipeline: Pipeline) -> None:
    with running_api(pipeline) as (api, process):
        for worker in psutil.Process(process.pid).children():
            worker.kill()
        wait_for(lambda: listens(api) and api.place().status == 202, what="an accepted order")


def listens(api: Api) -> bool:
    try:
        return api.get("/livez").status == 200
    except OSError:
        return False
