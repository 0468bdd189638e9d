import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.points import POINTS, ZOMBIES, Kind, Way, jobs, named
from onceloop.errors import UsageError
from services.table import PACKAGES

ROOT = Path(__file__).parents[3]
PRODUCT = ("common", "onceloop", *PACKAGES)
CALLS = {"point", "_point"}
OF_THE_GENERIC_STORE = {"handled"}
"""No service of the shop has it: `onceloop.testing` kills an app there."""
WINDOW_IS_PUBLISHED = ("metrics:produced", "metrics:offsets_sent")


def points_in_code() -> Iterator[str]:
    """Yield what stands in the calls, without the service that a loop puts in front."""
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in CALLS and node.args:
                    texts = [str(each.value) for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                    yield from filter(None, (text.rpartition(":")[2] for text in texts))


def test_every_point_of_the_code_is_in_the_table_and_no_other() -> None:
    in_code = set(points_in_code())
    in_table = {point.name for point in POINTS if point.way is not Way.WIRE}
    assert in_code == in_table | OF_THE_GENERIC_STORE


def test_there_are_forty_eight_points_and_twelve_zombies() -> None:
    assert (len(POINTS), len({str(point) for point in POINTS}), len(ZOMBIES)) == (48, 48, 12)


def test_transaction_is_open_from_its_begin_to_the_commit_on_the_wire() -> None:
    order = [point.name for point in POINTS if point.service == "inventory"]
    begun, sent = order.index("begun"), order.index("commit.sent")
    for point in POINTS:
        inside = point.service == "inventory" and begun <= order.index(point.name) <= sent
        assert point.txn_open == (inside or point.name == "dlq.produced" or str(point) in WINDOW_IS_PUBLISHED), point


def test_jobs_are_each_point_killed_and_some_as_zombies() -> None:
    assert len(jobs()) == 60
    assert [str(job) for job in jobs(point="inventory:begun")] == ["inventory:begun kill", "inventory:begun zombie"]
    assert [str(job) for job in jobs(point="order:acked", kind=Kind.KILL)] == ["order:acked kill"]


def test_unknown_point_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no point inventory:nowhere") as refused:
        named("inventory:nowhere")
    assert "inventory:db.committed" in str(refused.value.cure)
