"""Minutes as a terminal shows them: rows, bars, a line per total. Pure, but for the shapes that rich draws."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from common.events.volume import MINUTE_MS, MinuteVolume, minute_of

BAR_MIN, BAR_MAX = 10, 60
FIGURES_WIDTH = 58
"""What the columns beside the bar take."""
_PARTS = " ▏▎▍▌▋▊▉█"


class Minutes:
    """The newest minutes, each with its highest revision."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._totals: dict[int, MinuteVolume] = {}

    def add(self, totals: Iterable[MinuteVolume]) -> list[MinuteVolume]:
        """Take totals as they come; return those that say something new."""
        news = []
        for total in totals:
            known = self._totals.get(total.minute_ms)
            if known is None or total.revision > known.revision:
                self._totals[total.minute_ms] = total
                news.append(total)
        for minute in sorted(self._totals)[: -self._count]:
            del self._totals[minute]
        return [total for total in news if total.minute_ms in self._totals]

    def last(self) -> list[MinuteVolume]:
        """Return what is known, oldest first."""
        return [self._totals[minute] for minute in sorted(self._totals)]


def table(totals: Sequence[MinuteVolume], *, width: int) -> Table:
    """Return a row per minute; the bar shows the orders, its red end the failed ones."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("minute", "orders", "reserved", "failed", "units", "late", "revision"):
        shown.add_column(heading, justify="left" if heading == "minute" else "right")
    shown.add_column("")
    most = max((total.orders for total in totals), default=0)
    room = max(BAR_MIN, min(BAR_MAX, width - FIGURES_WIDTH))
    days = {total.minute_ms // (1440 * MINUTE_MS) for total in totals}
    for total in totals:
        figures = (total.orders, total.reserved, total.failed, total.units, total.late or "", total.revision)
        shown.add_row(
            _clock(total.minute_ms, with_day=len(days) > 1),
            *(str(figure) if isinstance(figure, str) else f"{figure:,}" for figure in figures),
            bar(total, most=most, room=room),
            style="dim" if not total.orders else None,
        )
    return shown


def bar(total: MinuteVolume, *, most: int, room: int) -> Text:
    """Return the orders as a bar, in eighths of a character; `most` orders fill the room."""
    if not most:
        return Text()
    whole = _eighths(total.orders, most, room)
    good = min(whole, _eighths(total.reserved, most, room)) // 8 * 8 if total.failed else whole
    text = Text(_blocks(good), style="green")
    text.append(_blocks(whole - good), style="red")
    return text


def chart(totals: Sequence[MinuteVolume], *, now_ms: int, width: int) -> RenderableType:
    """Return the table and, below it, what is to come."""
    running = minute_of(now_ms)
    seconds = (running + MINUTE_MS - now_ms + 999) // 1000
    below = Text(f"{_clock(running)} is being counted, {seconds} s to go; its total comes a moment later", style="dim")
    return Group(table(totals, width=width) if totals else Text(empty_text()), Text(), below)


def line(total: MinuteVolume) -> str:
    """Return a total in one line, for pipes and logs."""
    late = f"  late {total.late:,}" if total.late else ""
    return (
        f"{_clock(total.minute_ms, with_day=True)}  orders {total.orders:,}  reserved {total.reserved:,}  "
        f"failed {total.failed:,}  units {total.units:,}{late}  revision {total.revision:,}"
    )


def empty_text() -> str:
    """Say why there is nothing yet, and what to do."""
    return (
        "No minute is counted yet. The first comes some seconds after the end of the minute in which an order was "
        "placed, while metrics-0 and metrics-totals-0 run (see: pipeline status)."
    )


def _clock(minute_ms: int, *, with_day: bool = False) -> str:
    at = datetime.fromtimestamp(minute_ms / 1000, tz=UTC)
    return f"{at:%Y-%m-%d %H:%M}" if with_day else f"{at:%H:%M}"


def _eighths(count: int, most: int, room: int) -> int:
    """Return the length of a bar; whatever is not nothing is seen."""
    return max(round(count * room * 8 / most), 1 if count else 0)


def _blocks(eighths: int) -> str:
    return "█" * (eighths // 8) + (_PARTS[eighths % 8] if eighths % 8 else "")
