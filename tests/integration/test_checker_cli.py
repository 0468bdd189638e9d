"""`pipeline verify` as a user calls it: words, JSON and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_verify_says_in_one_line_that_the_books_are_sound(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.set_stock({"tea": 3})
    for service, role in (
        ("inventory_service", "inventory_rw"),
        ("notification_service", "notification_rw"),
    ):
        pipeline.start(service, role=role).wait_ready()
    pipeline.start("order_service", "projection", role="order_rw").wait_ready()
    write_orders(pipeline, [make_order(lines=[("tea", 2)]), make_order(lines=[("tea", 2)])])

    ended = run(pipeline, "verify", folder=tmp_path)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1].startswith(
        "0 lost, 0 doubled, 0 oversold: 2 orders, 1 reserved, 1 failed, 2 notified, 0 dead letters, 0 replays"
    )


def test_verify_names_the_order_that_has_no_outcome(pipeline: Pipeline, tmp_path: Path) -> None:
    order = make_order()
    write_orders(pipeline, [order])

    ended = run(pipeline, "verify", "--wait", "0", folder=tmp_path)

    assert (ended.returncode, ended.stderr) == (1, "")
    assert f"L1 order {order.order_id}: no outcome in time" in ended.stdout
    assert "    record     orders.created " in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("1 lost, 0 doubled, 0 oversold: 1 orders")


def test_verify_tells_a_script_in_json(pipeline: Pipeline, tmp_path: Path) -> None:
    order = make_order()
    write_orders(pipeline, [order])

    ended = run(pipeline, "verify", "--wait", "0", "--inventory-only", "--json", folder=tmp_path)

    told = json.loads(ended.stdout)
    assert (ended.returncode, told["sound"], told["harms"]["lost"]) == (1, False, 1)
    (rule,) = [rule for rule in told["rules"] if rule["broken"]]
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
