"""`pipeline verify` and `pipeline order` as a user calls them: words, JSON and exit codes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.api import Api, running_api
from tests.factories import make_order
from tests.pipeline import Pipeline
from tests.records import write_orders


def run(pipeline: Pipeline, *arguments: str, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `pipeline` in a folder that has no stack, so that the environment says where to look."""
    environment = {**pipeline.env("checker"), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[2]), **changes}
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def all_services(pipeline: Pipeline) -> Iterator[Api]:
    inventory = pipeline.start("inventory_service", role="inventory_rw")
    with followers(pipeline) as api:
        inventory.wait_ready()
        yield api


@contextmanager
def followers(pipeline: Pipeline) -> Iterator[Api]:
    workers = [
        pipeline.start("notification_service", role="notification_rw"),
        pipeline.start("order_service", "projection", role="order_rw"),
    ]
    with running_api(pipeline) as (api, _):
        for worker in workers:
            worker.wait_ready()
        yield api


def test_the_whole_pipeline_is_proved_and_an_order_s_story_shown(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.set_stock({"tea": 3})
    with all_services(pipeline) as api:
        placed = api.place("ada", [("tea", 2)], key="7f1c")
        assert api.place("ada", [("tea", 2)], key="7f1c").json == placed.json
        refused = api.place("ada", [("tea", 2)], Prefer="wait=10")

        proof = run(pipeline, "verify", folder=tmp_path)
        story = run(pipeline, "order", placed.json["order_id"], folder=tmp_path, PIPELINE_API_URL=api.url)
        printed = json.loads(
            run(pipeline, "order", refused.json["order_id"], "--json", folder=tmp_path, PIPELINE_API_URL=api.url).stdout
        )

    assert (proof.returncode, proof.stderr) == (0, "")
    assert proof.stdout.splitlines()[-1].startswith(
        "0 lost, 0 doubled, 0 oversold: 2 orders, 1 reserved, 1 failed, 2 notified, 0 dead letters, 0 replays"
    )
    assert (story.returncode, story.stderr) == (0, "")
    happened = [line.split("ms ", 1)[1].split()[0] for line in story.stdout.splitlines() if " ms " in line]
    assert set(happened) == {"placed", "key", "confirmed", "record", "decided", "event", "claimed", "sent", "notified"}
    assert "status  reserved, notified\n" in story.stdout
    assert story.stdout.endswith(": 200, reserved\n")
    assert printed["decision"]["verdict"] == "failed"
    assert printed["events"][0]["origin"] == printed["created"][0]["at"] == printed["decision"]["owner"]
    assert printed["http"]["status"] == printed["status"]["status"] == "failed"
    assert (
        len(printed["created"]) == len(printed["events"]) == len(printed["sent"]) == len(printed["notifications"]) == 1
    )


def test_verify_names_the_order_that_has_no_outcome(pipeline: Pipeline, tmp_path: Path) -> None:
    order = make_order()
    write_orders(pipeline, [order])

    ended = run(pipeline, "verify", "--wait", "0", folder=tmp_path)

    assert (ended.returncode, ended.stderr) == (1, "")
    assert f"L1 order {order.order_id}: no outcome in time" in ended.stdout
    assert "    record     orders.created " in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("1 lost, 0 doubled, 0 oversold: 1 order, ")


def test_verify_reports_to_a_script_in_json(pipeline: Pipeline, tmp_path: Path) -> None:
    order = make_order()
    write_orders(pipeline, [order])

    ended = run(pipeline, "verify", "--wait", "0", "--inventory-only", "--json", folder=tmp_path)

    printed = json.loads(ended.stdout)
    assert (ended.returncode, printed["sound"], printed["harms"]["lost"]) == (1, False, 1)
    (rule,) = [rule for rule in printed["rules"] if rule["broken"]]
    assert rule["examples"][0]["order_id"] == order.order_id
    assert rule["examples"][0]["path"][0].startswith("record ")


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PIPELINE_POSTGRES_URL", "postgresql://checker@127.0.0.1:1/none", "PostgreSQL does not answer"),
        ("PIPELINE_REGISTRY_URL", "http://127.0.0.1:1", "the registry does not answer"),
    ],
)
def test_a_store_that_is_down_ends_verify_with_75(
    pipeline: Pipeline, tmp_path: Path, variable: str, value: str, named: str
) -> None:
    write_orders(pipeline, [make_order()])

    ended = run(pipeline, "verify", "--wait", "0", folder=tmp_path, **{variable: value})

    assert ended.returncode == 75
    assert named in ended.stderr
    assert "way out: see: pipeline status" in ended.stderr


def test_an_order_that_waits_is_found_on_the_topic_alone(pipeline: Pipeline, tmp_path: Path) -> None:
    order = make_order(lines=[("tea", 2), ("mug", 1)])
    write_orders(pipeline, [make_order(), order, order])

    ended = run(pipeline, "order", order.order_id, folder=tmp_path, PIPELINE_API_URL="http://127.0.0.1:1")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("record     orders.created ") == 2
    assert "2 x tea, 1 x mug for ada" in ended.stdout
    assert "none: the projection has not read the order" in ended.stdout
    assert "no answer" in ended.stdout


@pytest.mark.parametrize(
    ("order_id", "code", "said"),
    [
        ("0198c5d2-7c5e-7f10-8a30-5b1f6f0d9c11", 2, "no topic and no table knows order 0198c5d2"),
        ("7f1c", 2, "'7f1c' is no order id"),
    ],
)
def test_an_order_that_does_not_exist_is_said_to_be_unknown(
    pipeline: Pipeline, tmp_path: Path, order_id: str, code: int, said: str
) -> None:
    ended = run(pipeline, "order", order_id, folder=tmp_path)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "way out: " in ended.stderr


def test_one_waiting_order_accuses_no_other_order(pipeline: Pipeline, tmp_path: Path) -> None:
    """Aim: one partition is not read. The orders of the others are judged by their own facts, followers included."""
    pipeline.set_stock({"tea": 100})
    sound = [make_order() for _ in range(5)]
    inventory = pipeline.start("inventory_service", role="inventory_rw")
    with followers(pipeline) as api:
        write_orders(pipeline, sound)
        assert run(pipeline, "verify", folder=tmp_path).returncode == 0
        inventory.stop()
        waiting = make_order()
        write_orders(pipeline, [waiting])
        ended = run(pipeline, "verify", "--wait", "1", "--json", folder=tmp_path)
        story = run(pipeline, "order", waiting.order_id, folder=tmp_path, PIPELINE_API_URL=api.url)

    (rule,) = [rule for rule in json.loads(ended.stdout)["rules"] if rule["broken"]]
    assert (rule["id"], rule["broken"], rule["examples"][0]["order_id"]) == ("L1", 1, waiting.order_id)
    assert "the inventory has not read" in rule["examples"][0]["what"]
    assert "outcome none: the inventory has not read orders.created" in story.stdout
