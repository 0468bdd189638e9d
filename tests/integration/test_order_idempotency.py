"""Idempotency keys: one key of one user is one order, whatever is repeated, raced or killed in between."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from chaos.run.plan import Action, Arm, read_evidence, write_plan
from common.topics import ORDERS_CREATED
from tests.api import Answer, Api, new_user, running_api, start_projection
from tests.pipeline import Pipeline, open_pipeline
from tests.records import Seen, read
from tests.stack import Stack

THREADS = 8


@dataclass(frozen=True, slots=True)
class Shop:
    """An API under the chaos launcher, shared by the tests of this module; users keep them apart."""

    pipeline: Pipeline
    api: Api
    plan: Path
    evidence: Path

    def kill_at(self, point: str, user_id: str) -> None:
        """Have the worker killed that takes this user's next order."""
        write_plan(self.plan, [Arm(point=point, action=Action.KILL)])
        with pytest.raises(OSError, match=r"reset|closed|Remote"):
            self.api.place(user_id, key="k")
        assert read_evidence(self.evidence)[-1].point == point


@pytest.fixture(scope="module")
def shop(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    plan, evidence = folder / "plan.json", folder / "fired.jsonl"
    write_plan(plan, [])
    with open_pipeline(servers, logs=folder) as pipeline:
        process = pipeline.start(
            "chaos.run.launch",
            "order_service",
            "api",
            role="order_rw",
            env={"CHAOS_PLAN": str(plan), "CHAOS_EVIDENCE": str(evidence)},
        )
        process.wait_ready(process.http_url)
        yield Shop(pipeline, Api(process.http_url), plan, evidence)


def records(pipeline: Pipeline, user_id: str) -> list[Seen]:
    return [seen for seen in read(pipeline, ORDERS_CREATED) if seen.key == user_id.encode()]


def key_row(pipeline: Pipeline, user_id: str) -> sa.Row[tuple[str, bytes, bool]]:
    with pipeline.connect("reader") as connection:
        return connection.execute(
            sa.text(
                "SELECT order_id::text, event, acknowledged_at IS NOT NULL AS acknowledged"
                " FROM orders.idempotency_key WHERE user_id = :user_id"
            ),
            {"user_id": user_id},
        ).one()


def together(call: Callable[[], Answer]) -> list[Answer]:
    """Make the call from eight threads at once."""
    start = threading.Barrier(THREADS)

    def meet() -> Answer:
        start.wait()
        return call()

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result() for future in [pool.submit(meet) for _ in range(THREADS)]]


def test_key_means_one_order(shop: Shop) -> None:
    user = new_user()
    first, again, quoted = (shop.api.place(user, key=key) for key in ("k1", "k1", '"k1"'))
    assert (again.status, again.body, again.headers["location"]) == (202, first.body, first.headers["location"])
    assert quoted.body == first.body
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again, quoted)] == [None, "true", "true"]
    assert len(records(shop.pipeline, user)) == 1, "an acknowledged order is not written again"
    assert key_row(shop.pipeline, user).acknowledged

    spaced = f'{{ "lines": [ {{"quantity": 2, "sku": "tea"}} ], "user_id": "{user}" }}'
    assert shop.api.post(spaced, Idempotency_Key="k1").body == first.body, "spacing and member order do not matter"
    other = shop.api.place(user, [("tea", 3)], key="k1")
    assert (other.status, other.problem) == (422, "idempotency-key-conflict")
    assert len(records(shop.pipeline, user)) == 1


def test_key_belongs_to_its_user(shop: Shop) -> None:
    one, other = shop.api.place(new_user(), key="k"), shop.api.place(new_user(), key="k")
    assert (one.status, other.status) == (202, 202)
    assert one.json["order_id"] != other.json["order_id"]


def test_same_key_at_once_is_one_order(shop: Shop) -> None:
    for _ in range(5):
        user = new_user()
        answers = together(partial(shop.api.place, user, key="k"))
        assert {answer.status for answer in answers} == {202}
        assert len({answer.body for answer in answers}) == 1
        assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1, "one of them was the first"
        row = key_row(shop.pipeline, user)
        seen = {(record.value, record.headers["ce_id"]) for record in records(shop.pipeline, user)}
        assert seen == {(row.event, row.order_id.encode())}


def test_same_key_at_once_with_other_bodies_is_one_order(shop: Shop) -> None:
    user = new_user()
    quantities = iter(range(1, THREADS + 1))
    answers = together(lambda: shop.api.place(user, [("tea", next(quantities))], key="k"))
    assert sorted(answer.status for answer in answers) == [202, *[422] * (THREADS - 1)]
    assert len(records(shop.pipeline, user)) == 1


@pytest.mark.parametrize(
    ("point", "on_topic"),
    [
        ("order:parsed", False),
        ("order:key.stored", False),
        ("order:acked", True),
        ("order:key.marked", True),
        ("order:responding", True),
    ],
)
def test_retry_after_a_kill_gives_the_order_that_the_first_attempt_began(
    shop: Shop, point: str, *, on_topic: bool
) -> None:
    """Aim: S1, S4. Fault: SIGKILL of the gunicorn worker at the point, no answer to the client. The retry with the key
    must give one order, and every record of it the bytes of the row."""
    user = new_user()
    shop.kill_at(point, user)
    assert bool(records(shop.pipeline, user)) == on_topic

    answer = shop.api.place(user, key="k")
    row = key_row(shop.pipeline, user)
    assert (answer.status, answer.json["order_id"], row.acknowledged) == (202, row.order_id, True)
    assert ("idempotent-replayed" in answer.headers) == (point != "order:parsed"), "a row stood, whatever was answered"
    seen = {(record.value, record.headers["ce_id"]) for record in records(shop.pipeline, user)}
    assert seen == {(row.event, row.order_id.encode())}


def test_repeated_record_is_the_first_one_to_the_byte(shop: Shop) -> None:
    """Aim: a retry may repeat a record, never change it. Fault: SIGKILL between acknowledgement and mark."""
    user = new_user()
    shop.kill_at("order:acked", user)
    assert not key_row(shop.pipeline, user).acknowledged
    assert shop.api.place(user, key="k").status == 202
    first, second = records(shop.pipeline, user)
    assert (first.key, first.value, first.headers) == (second.key, second.value, second.headers)


def test_outcome_answers_a_client_that_waits(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 2})
    worker = pipeline.start("inventory_service", role="inventory_rw")
    projection = start_projection(pipeline)
    with running_api(pipeline) as (api, _):
        worker.wait_ready()
        projection.wait_ready()
        user = new_user()
        reserved = api.place(user, key="k", Prefer="wait=10")
        failed = api.place(user, Prefer="wait=10").json
        unknown = api.place(user, [("spoon", 1)], Prefer="wait=10").json
        again = api.place(user, key="k")

    assert (reserved.status, reserved.json["status"]) == (200, "reserved"), reserved
    assert reserved.headers["location"] == f"/orders/{reserved.json['order_id']}"
    assert reserved.headers["preference-applied"] == "wait=10"
    assert reserved.json["decided_at"] >= reserved.json["placed_at"]
    assert (failed["status"], failed["reason"]) == ("failed", "insufficient_stock")
    assert failed["lacking"] == {"sku": "tea", "requested": 2, "available": 0}
    assert (unknown["status"], unknown["reason"]) == ("failed", "unknown_sku")
    assert (again.status, again.json["order_id"]) == (202, reserved.json["order_id"])
