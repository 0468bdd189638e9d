"""Minutes in the terminal: the highest revision, the newest minutes, bars that fit."""

import io

from rich.console import Console, RenderableType

from common.events.volume import MINUTE_MS, MinuteVolume
from deploy.cli.minutes import Minutes, bar, chart, line, table

NOON = 1_800_014_400_000
"""2027-01-15 12:00 UTC."""


def total(number: int, *, reserved: int = 3, failed: int = 1, late: int = 0, revision: int = 1) -> MinuteVolume:
    return MinuteVolume(NOON + number * MINUTE_MS, reserved + failed, reserved, failed, 2 * reserved, late, revision)


def drawn(shown: RenderableType, *, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(shown)
    return console.export_text()


def test_highest_revision_of_a_minute_is_shown__whatever_comes_when() -> None:
    seen = Minutes(5)
    assert seen.add([total(0, revision=2), total(0, revision=1)]) == [total(0, revision=2)]
    assert seen.add([total(0, revision=2), total(0, revision=4)]) == [total(0, revision=4)]
    assert seen.last() == [total(0, revision=4)]


def test_newest_minutes_are_kept_in_order() -> None:
    seen = Minutes(2)
    seen.add([total(3), total(1), total(2)])
    assert [each.minute_ms for each in seen.last()] == [total(2).minute_ms, total(3).minute_ms]
    assert seen.add([total(1, revision=9)]) == [], "it is no longer shown"


def test_row_shows_all_figures_in_utc() -> None:
    text = drawn(table([total(0, reserved=1200, failed=34, late=5, revision=17)], width=100))
    assert text.splitlines()[1].split()[:7] == ["12:00", "1,234", "1,200", "34", "2,400", "5", "17"]


def test_day_is_shown_where_there_is_more_than_one() -> None:
    text = drawn(table([total(0), total(24 * 60)], width=100))
    assert "2027-01-15 12:00" in text
    assert "2027-01-16 12:00" in text


def test_bar_of_the_largest_minute_fills_its_room_and_the_smallest_order_is_seen() -> None:
    assert len(bar(total(0, reserved=500, failed=0), most=500, room=20).plain) == 20
    assert bar(total(0, reserved=1, failed=0), most=100_000, room=20).plain == "▏"
    assert bar(total(0, reserved=0, failed=0), most=500, room=20).plain == ""
    assert bar(total(0, reserved=0, failed=0), most=0, room=20).plain == ""


def test_failed_orders_are_the_red_end_of_the_bar() -> None:
    text = bar(total(0, reserved=50, failed=50), most=100, room=20)
    assert [(str(span.style), span.end - span.start) for span in text.spans] == [("red", 10)]


def test_chart_fits_a_narrow_terminal_and_says_what_is_to_come() -> None:
    text = drawn(chart([total(0)], now_ms=NOON + 2 * MINUTE_MS + 17_500, width=80), width=80)
    assert max(len(row) for row in text.splitlines()) <= 80
    assert "12:02 is being counted, 43 s to go" in text
    assert "No minute is counted yet" in drawn(chart([], now_ms=NOON, width=80), width=80)


def test_line_shows_late_orders_only_where_there_are_some() -> None:
    assert line(total(0)) == "2027-01-15 12:00  orders 4  reserved 3  failed 1  units 6  revision 1"
    assert "late 2  revision 3" in line(total(0, late=2, revision=3))
