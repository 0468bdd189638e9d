"""Grafana's boards as files: what a board without a Grafana can still get wrong."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring import BOARDS, known_metrics, metrics_in, panels, queries

COLUMNS = 24


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    return set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))


def test_boards_have_names_and_addresses_of_their_own() -> None:
    boards = [json.loads(board.read_text(encoding="utf-8")) for board in BOARDS]
    assert len(boards) == 4
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == len(boards)
    assert {tag for board in boards for tag in board["tags"]} == {"order-pipeline"}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_panels_lie_side_by_side_and_explain_themselves(board: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert max(x for x, _ in cells(panel)) < COLUMNS, panel["title"]
        assert not taken & cells(panel), panel["title"]
        taken |= cells(panel)
    assert len({panel["id"] for panel in panels(board)}) == len(panels(board))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_queries_are_about_metrics_that_exist(board: Path) -> None:
    asked = {name for _, query in queries(board) for name in metrics_in(query)}
    assert asked - known_metrics() == set()
    assert not [query for _, query in queries(board) if "$" in query]
