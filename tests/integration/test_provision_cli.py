"""`pipeline provision`, `stock` and `psql` as a user types them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from migrations.upgrade import newest
from onceloop.errors import ExitCode
from tests.pipeline import Pipeline
from tests.stack import Stack


def run(pipeline: Pipeline, env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a subcommand where no local stack is at hand."""
    home = {"PIPELINE_HOME": str(pipeline.settings.role_secrets_dir / "no-stack-here")}
    return run_cli({**home, **env}, *arguments)


def run_cli(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a subcommand with no settings but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli.main", *arguments],
        env={**inherited, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_stock_is_listed_set_and_added_to(pipeline: Pipeline) -> None:
    pipeline.set_stock({"mug": 1, "tea": 10})
    listed = run(pipeline, pipeline.env("stock_admin"), "stock", "list", "--json")
    assert [row["sku"] for row in json.loads(listed.stdout)] == ["mug", "tea"]
    assert run(pipeline, pipeline.env("stock_admin"), "stock", "set", "tea", "7").stdout.split()[-4:] == [
        "tea",
        "7",
        "0",
        "7",
    ]
    assert run(pipeline, pipeline.env("stock_admin"), "stock", "add", "tea", "-2").returncode == ExitCode.OK
    assert pipeline.available() == {"mug": 1, "tea": 5}


def test_a_refused_restock_says_why_in_two_lines(pipeline: Pipeline) -> None:
    refused = run(pipeline, pipeline.env("stock_admin"), "stock", "add", "tea", "5")
    assert refused.returncode == ExitCode.USAGE
    assert refused.stderr == "error: there is no SKU tea\n  way out: create it: pipeline stock set tea 5\n"


def test_psql_finds_views_without_prefix_and_writes_nothing(pipeline: Pipeline) -> None:
    pipeline.set_stock({"tea": 10})
    query = "select * from reservations order by decided_at desc limit 5"
    asked = run(pipeline, pipeline.env("reader"), "psql", "--csv", "-c", query, "-c", "select * from stock_balance")
    assert asked.stdout.splitlines() == [
        "order_id,lines,replays,decided_at",
        "sku,on_hand,reserved,available",
        "tea,10,0,10",
    ]
    refused = run(pipeline, pipeline.env("reader"), "psql", "-c", "update stock set available = 0")
    assert refused.returncode != ExitCode.OK
    assert "read-only transaction" in refused.stderr


def test_a_reservation_reads_like_a_receipt(pipeline: Pipeline) -> None:
    with pipeline.administer() as connection:
        connection.exec_driver_sql(
            """
            INSERT INTO inventory.decision
            SELECT gen_random_uuid(), verdict, reason, gen_random_uuid(), '', 'orders.created', 0, 0,
                ARRAY['tea', 'mug'], ARRAY[2, 1], 0, now()
            FROM (VALUES (1, NULL), (0, 'unknown_sku')) AS decided (verdict, reason)
            """
        )
    asked = run(pipeline, pipeline.env("reader"), "psql", "-At", "-c", "select lines, replays from reservations")
    assert asked.stdout == "tea x2, mug x1|0\n"


def test_provision_reports_each_step_for_people_and_for_scripts(pipeline: Pipeline) -> None:
    env = pipeline.env("reader") | {
        "PIPELINE_POSTGRES_ADMIN_URL": pipeline.settings.postgres_admin_url,
        "PIPELINE_POSTGRES_ADMIN_PASSWORD": pipeline.settings.postgres_admin_password.get_secret_value(),
        "PIPELINE_ROLE_SECRETS_DIR": str(pipeline.settings.role_secrets_dir),
        "PIPELINE_DATABASE": pipeline.settings.database,
    }
    reported = run(pipeline, env, "provision")
    assert reported.returncode == ExitCode.OK, reported.stderr
    assert f"migrations  at {newest()}; nothing to do" in reported.stdout
    assert "apron, basket, blanket, board-game and 46 more" in reported.stdout
    steps = json.loads(run(pipeline, env, "provision", "--json").stdout)
    assert [step["changed"] for step in steps] == [[]] * 7


def test_without_a_stack_the_missing_variable_is_named(pipeline: Pipeline) -> None:
    for command in (("provision",), ("psql",)):
        refused = run(pipeline, {}, *command)
        assert refused.returncode == ExitCode.CONFIG
        assert "PIPELINE_POSTGRES_" in refused.stderr
        assert "way out:" in refused.stderr


def test_a_stack_at_hand_is_found_by_its_folder(servers: Stack) -> None:
    if servers.home is None:
        pytest.skip("needs --stack=local")
    # A variable left over in the shell leads no command away from the stack that is named.
    env = {
        "PIPELINE_HOME": str(servers.home),
        "PIPELINE_POSTGRES_URL": "postgresql://reader@127.0.0.1:9/elsewhere",
    }
    provisioned = run_cli(env, "provision")
    assert provisioned.returncode == ExitCode.OK, provisioned.stderr
    assert run_cli(env, "stock", "set", "tea", "7").stdout.split()[-4:] == ["tea", "7", "0", "7"]
    asked = run_cli(env, "psql", "-At", "-c", "select available from stock where sku = 'tea'")
    assert (asked.stdout, asked.stderr) == ("7\n", "")
