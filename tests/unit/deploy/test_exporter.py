"""What the exporter makes of its looks: how old a stall is, and a page that shows no old values."""

import time

import pytest
import sqlalchemy as sa

from common.topics import ORDER_STATUS
from deploy.exporter import measures
from deploy.exporter.board import Board
from deploy.exporter.observer import Cluster, Ends, Look, Standing
from deploy.exporter.run import Looking, Positions
from deploy.exporter.stalls import Stall, stalls
from deploy.exporter.tables import Books
from onceloop.errors import Busy
from onceloop.records import Partition

AT = Partition("inventory.reserved", 0)


def make_look(*, stable: int = 4, high: int = 7) -> Look:
    return Look(
        Cluster(brokers=1, leaderless=0, under_replicated=0, answer_seconds=0.01),
        {AT: Ends(first=0, stable=stable, high=high)},
        {"notification": Standing(committed={AT: 1}, lag={AT: 3}, unset=0, members=1)},
    )


def shown(board: Board) -> dict[str, float]:
    return {sample.name: sample.value for family in board.collect() for sample in family.samples}


def test_stall_grows_old_as_long_as_the_stable_offset_stands_still() -> None:
    ends = {AT: Ends(0, 4, 7)}
    first = stalls({}, ends, now_seconds=100)
    assert first == {AT: Stall(4, 100)}
    assert stalls(first, {AT: Ends(0, 4, 9)}, now_seconds=130) == first, "more behind it changes nothing"
    assert stalls(first, {AT: Ends(0, 5, 9)}, now_seconds=130) == {AT: Stall(5, 130)}, "it moved"
    assert stalls(first, {AT: Ends(0, 9, 9)}, now_seconds=130) == {}, "it ended"


def test_page_shows_how_long_a_stall_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    board = Board()
    board.show_look(make_look())
    now += 30
    board.show_look(None)  # a look that failed in between
    now += 12
    board.show_look(make_look())
    assert shown(board)[measures.UNSTABLE_SECONDS.name] == 42
    board.show_look(make_look(stable=7))
    assert shown(board)[measures.UNSTABLE_SECONDS.name] == 0


def test_page_shows_a_broker_that_is_away_and_nothing_old() -> None:
    board = Board()
    board.show_look(make_look())
    board.show_books(Books(10, 8, 2, 0, claimed=1, sent=2, oldest_claim_seconds=3.5))
    assert {measures.GROUP_LAG.name, measures.STOCK_IMBALANCE.name} <= shown(board).keys()
    board.show_look(None)
    board.show_books(None)
    assert shown(board) == {measures.CLUSTER_UP.name: 0}


def test_positions_that_are_too_old_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    positions = Positions(stale_seconds=20)
    assert positions.known() == {ORDER_STATUS: None}
    positions.take({AT: 5})
    positions.take(None)
    now += 19
    assert positions.known() == {ORDER_STATUS: {AT: 5}}
    now += 2
    assert positions.known() == {ORDER_STATUS: None}


@pytest.mark.parametrize("error", [Busy("away"), sa.exc.ProgrammingError("SELECT", {}, Exception("no such table"))])
def test_look_that_fails_shows_nothing_and_ends_nothing(error: Exception) -> None:
    shown: list[int | None] = []
    answers: list[int | Exception] = [1, error, 2]

    def look() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    looking = Looking("tables", look, shown.append)
    for _ in range(3):
        looking.once()
    assert shown == [1, None, 2]
