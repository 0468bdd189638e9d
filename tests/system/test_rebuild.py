"""PostgreSQL is restored from a backup, and rebuilt from the topics with the commands of the runbook."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED
from tests.api import start_projection
from tests.commands import Shell, blocks
from tests.factories import make_order
from tests.groups import committed, set_group
from tests.pipeline import Pipeline
from tests.processes import Process
from tests.records import read, wait_for, write, write_orders
from tests.restores import Backup, progress

HEADING = "PostgreSQL was restored from a backup"
REBUILD, RESTOCK, VERIFY = range(3)
ORDERS = 40
TABLES = {
    "decision": 'SELECT order_id, verdict, reason, event_id, event, topic, partition, "offset", skus, qtys, decided_at'
    " FROM inventory.decision ORDER BY order_id",
    "stock": "SELECT sku, on_hand, available FROM inventory.stock WHERE sku IN ('mug', 'tea') ORDER BY sku",
    "ledger": "SELECT order_id, kind, channel, event_id, user_id, state, message_id, date_trunc('ms', sent_at)"
    " FROM notification.ledger ORDER BY order_id",
    "progress": 'SELECT topic, partition, "offset" FROM inventory.progress ORDER BY 1, 2',
}


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    pipeline = make_pipeline()
    pipeline.set_stock({"tea": 100, "mug": 100})
    return pipeline


@pytest.fixture
def shell(pipeline: Pipeline, tmp_path: Path) -> Callable[..., str]:
    """Run commands with the variables that an operator has set."""
    settings = pipeline.settings
    admin = {
        "PIPELINE_POSTGRES_ADMIN_URL": settings.postgres_admin_url,
        "PIPELINE_POSTGRES_ADMIN_PASSWORD": settings.postgres_admin_password.get_secret_value(),
        "PIPELINE_ROLE_SECRETS_DIR": str(settings.role_secrets_dir),
        "PIPELINE_DATABASE": settings.database,
    }
    opened = Shell(pipeline, tmp_path)

    def run(commands: str, *, role: str = "checker", check: bool = True) -> str:
        return opened.run(commands, check=check, **{**admin, **pipeline.env(role)})

    return run


def load(pipeline: Pipeline, *, orders: int = ORDERS, tea: int = 1) -> None:
    """Write orders of which some fail, one twice, and garbage between them."""
    placed = [
        make_order(user_id=f"u{n}", lines=[("tea", tea)] if n % 4 else [("mug", 1), ("tea", tea)])
        for n in range(orders)
    ]
    placed += [make_order(user_id="u1", lines=[("nothing of ours", 1)]), make_order(user_id="u2", lines=[("tea", 999)])]
    write_orders(pipeline, [*placed, placed[0]])
    write(pipeline, ORDERS_CREATED, [(b"u3", b"garbage")])


def start_workers(pipeline: Pipeline) -> list[Process]:
    started = [
        pipeline.start("inventory_service", role="inventory_rw"),
        pipeline.start("notification_service", role="notification_rw"),
        start_projection(pipeline),
    ]
    return [each.wait_ready() for each in started]


def rows(pipeline: Pipeline, table: str) -> list[Any]:
    with pipeline.connect("checker") as connection:
        return [tuple(row) for row in connection.execute(sa.text(TABLES[table]))]


def finished(pipeline: Pipeline) -> None:
    """Wait until every order has its outcome and its notification, and all of it is noted."""
    ends = pipeline.admin.stable_ends([ORDERS_CREATED])
    wait_for(lambda: committed(pipeline, INVENTORY) == ends, what="the offsets of the inventory")
    outcomes = len(read(pipeline, INVENTORY_RESERVED, INVENTORY_FAILED))
    wait_for(lambda: sum(row[5] == "sent" for row in rows(pipeline, "ledger")) == outcomes, what="the notifications")
    noted = {at: offset for at, offset in ends.items() if offset}
    wait_for(lambda: progress(pipeline) == noted, what="the progress")


def work(pipeline: Pipeline, **wanted: int) -> None:
    workers = start_workers(pipeline)
    load(pipeline, **wanted)
    finished(pipeline)
    assert [worker.stop() for worker in workers] == [0, 0, 0]


def test_restored_database_is_rebuilt_as_the_runbook_says(pipeline: Pipeline, shell: Callable[..., str]) -> None:
    """Aim: G1 to G3, G8. Fault: the database is that of before, while events and notifications of later are visible.

    Must hold: each lost row is back to the byte, and a second run changes nothing; no customer is notified twice; then
    work goes on and the books are sound.
    """
    work(pipeline)
    backup = Backup(pipeline)
    work(pipeline)
    before = {table: rows(pipeline, table) for table in TABLES}
    backup.restore()
    assert rows(pipeline, "decision") != before["decision"]

    commands = blocks("docs/runbook.md", HEADING)
    printed = shell(commands[REBUILD])
    assert "decisions      missing: 42 (40 reserved, 2 failed)" in printed, printed
    assert {table: rows(pipeline, table) for table in TABLES} == before

    again = shell("pipeline rebuild")
    assert "nothing is missing" in again, again
    assert {table: rows(pipeline, table) for table in TABLES} == before

    workers = start_workers(pipeline)
    refused = shell("pipeline rebuild", check=False)
    assert "has live members" in refused, refused
    load(pipeline, orders=4)
    finished(pipeline)
    proof = shell(commands[VERIFY])
    assert "0 lost, 0 doubled, 0 oversold" in proof, proof
    for worker in workers:
        assert "have no decision" not in worker.output()


def test_lost_restock_is_named_and_nothing_is_changed_before_it_is_made_good(
    pipeline: Pipeline, shell: Callable[..., str]
) -> None:
    """Aim: G1. Fault: a delivery that came in and was sold since the backup is lost with it.

    Must hold: the shelf never goes below zero, and no decision is brought back without its stock.
    """
    work(pipeline, orders=8)
    backup = Backup(pipeline)
    shell("pipeline stock add tea 60", role="stock_admin")
    work(pipeline, orders=8, tea=16)
    before = {table: rows(pipeline, table) for table in TABLES}
    backup.restore()
    restored = {table: rows(pipeline, table) for table in TABLES}

    found = json.loads(shell("pipeline rebuild --json", check=False))
    assert (found["short"], found["changed"]) == ({"tea": 36}, False)
    assert found["todo"][0]["cure"].startswith(
        "restock what came in since the backup, at least: pipeline stock add tea 36"
    )
    assert {table: rows(pipeline, table) for table in TABLES} == restored

    shell(blocks("docs/runbook.md", HEADING)[RESTOCK], role="stock_admin")  # 40 of the 60, as if no more were counted
    shell("pipeline rebuild")
    after = {table: rows(pipeline, table) for table in TABLES}
    lacking = {"tea": 20, "mug": 0}
    assert after["stock"] == [
        (sku, on_hand - lacking[sku], left - lacking[sku]) for sku, on_hand, left in before["stock"]
    ]
    assert {**after, "stock": ()} == {**before, "stock": ()}


def test_offsets_set_ahead_are_distinguished_from_a_restored_database(
    pipeline: Pipeline, shell: Callable[..., str]
) -> None:
    """Aim: G4. Fault: the group was set to the end while orders waited; nothing was restored."""
    work(pipeline, orders=8)
    load(pipeline, orders=8)
    ends = pipeline.admin.stable_ends([ORDERS_CREATED])
    set_group(pipeline, INVENTORY, ends)

    printed = shell("pipeline rebuild", check=False)
    assert "decisions      missing: 0" in printed, printed
    assert "its offsets were set ahead" in printed, printed
    assert "pipeline offsets repair inventory" in printed, printed
    shell("pipeline offsets repair inventory", role="reader")
    workers = start_workers(pipeline)
    finished(pipeline)
    assert "0 lost" in shell("pipeline verify")
    assert all(worker.exit_code is None for worker in workers)
