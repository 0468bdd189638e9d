"""Show a running stack in the terminal: a live table where there is one, plain lines where there is not."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from deploy.local.fetch import jars
from deploy.local.home import Home
from deploy.local.stack.hints import home_option, page_lines, paste_lines, pipeline_command
from deploy.local.stack.ports import Moved
from deploy.local.stack.readings import Reading, Readings
from deploy.local.stack.state import Phase, ProcessState, StackState
from deploy.local.stack.totals import Totals
from deploy.local.supervise.diagnosis import PortTakenError
from deploy.local.supervise.runner import State

FETCHING = "Fetching Kafka and the schema registry (once per user)"
RATE_SECONDS = 5.0
_PROGRESS_STEPS = 10
_STYLES = {
    "ready": "green",
    "done": "green",
    "failed": "red",
    "restarting": "yellow",
    "frozen": "cyan",
    "not ready": "yellow",
}


class PlainView:
    """One line per event: for pipes, log files, NO_COLOR."""

    shows_figures = False

    def __init__(self, console: Console, home: Home) -> None:
        self._console, self._home = console, home
        self._began = time.monotonic()
        self._last: dict[str, ProcessState] = {}
        self._phase = Phase.STARTING
        self._error = ""

    @contextmanager
    def open_progress(self, size_bytes: int) -> Iterator[jars.Advance]:
        """Print a line per tenth."""
        self._line(f"{FETCHING}: {size_bytes / 1e6:.0f} MB")
        fetched = steps = 0

        def advance(more_bytes: int) -> None:
            nonlocal fetched, steps
            fetched += more_bytes
            if fetched * _PROGRESS_STEPS >= (steps + 1) * size_bytes:
                steps = fetched * _PROGRESS_STEPS // size_bytes
                self._line(f"  {fetched * 100 // size_bytes} %")

        yield advance

    def moved(self, ports: Sequence[Moved]) -> None:
        """Print a line per port."""
        for port in ports:
            self._line(moved_line(port))

    def port_lost(self, error: PortTakenError) -> None:
        """Print it."""
        self._line(lost_line(error))

    def show(self, stack: StackState, _readings: Readings, /) -> None:
        """Print what changed; figures are for `pipeline status`."""
        for process in stack.processes:
            if (line := changed_line(self._last.get(process.label), process)) is not None:
                self._line(f"{self._seconds():6.1f} s  {line}")
            self._last[process.label] = process
        if stack.phase is Phase.READY and stack.error != self._error:
            self._error = stack.error
            self._line(error_lines(stack))
        if stack.phase is not self._phase:
            self._phase = stack.phase
            self._line(f"{self._seconds():6.1f} s  stack {stack.phase}")
            if stack.phase is Phase.READY:
                self._invite(stack)

    def _invite(self, stack: StackState) -> None:
        for line in invitation(stack, self._home):
            self._line(line)
        down = f"{pipeline_command()} down{home_option(self._home)}"
        self._line(f"\nTo stop everything: {down}, or Ctrl-C where it runs.\n")

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A table that stands still and changes."""

    shows_figures = True

    def __init__(self, console: Console, home: Home, live: Live) -> None:
        self._console, self._home, self._live = console, home, live
        self._rate = Rate()
        self._invited = False

    @contextmanager
    def open_progress(self, size_bytes: int) -> Iterator[jars.Advance]:
        """Show a bar in the table's place."""
        columns = (TextColumn(FETCHING), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        bar = Progress(*columns, console=self._console, auto_refresh=False)
        task = bar.add_task("", total=size_bytes)
        self._live.update(bar)
        yield lambda more_bytes: bar.advance(task, more_bytes)

    def moved(self, ports: Sequence[Moved]) -> None:
        """Leave a line per port above the table."""
        for port in ports:
            self._console.print(moved_line(port), style="yellow", highlight=False)

    def port_lost(self, error: PortTakenError) -> None:
        """Leave a line above the table."""
        self._console.print(lost_line(error), style="yellow", highlight=False, markup=False)

    def show(self, stack: StackState, readings: Readings, /) -> None:
        """Redraw it; once it is ready, leave above it what a user opens and pastes.

        Not in the table: it would push that out of a terminal of 24 lines, and be cut at 80 columns.
        """
        if stack.phase is Phase.READY and not self._invited:
            self._invited = True
            text = "\n".join((*invitation(stack, self._home), ""))
            self._console.print(text, style="cyan", highlight=False, markup=False, soft_wrap=True)
        parts: list[RenderableType] = [process_table(stack, readings)]
        parts += [Text(f"{each.label}: {each.waits}", style="yellow") for each in stack.processes if each.waits]
        parts.append(Text(figures_line(readings, self._rate.of(readings.totals)), style="bold"))
        if stack.error and stack.phase is Phase.READY:  # a failed start is reported at the command's end
            parts.append(Text(error_lines(stack), style="red"))
        parts.append(Text(_PHASE_LINES[stack.phase], style="dim"))
        self._live.update(Group(*parts))


View = PlainView | LiveView
_PHASE_LINES = {
    Phase.STARTING: "Starting. Ctrl-C stops everything.",
    Phase.READY: "Ready. Ctrl-C stops everything.",
    Phase.STOPPING: "Stopping. Ctrl-C again does not wait.",
    Phase.STOPPED: "Stopped. The data stays: `pipeline up` goes on with it, `pipeline down --volumes` removes it.",
    Phase.FAILED: "Stopped, because a part did not come up.",
}


@contextmanager
def open_view(home: Home) -> Iterator[View]:
    """Yield the view that fits the standard output."""
    console = Console()
    if not console.is_terminal or console.no_color:
        yield PlainView(console, home)
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield LiveView(console, home, live)


class Rate:
    """Orders decided per second, over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def of(self, totals: Totals, *, now: float | None = None) -> float | None:
        """Take the totals as they are now; return the rate, None while there is nothing to compare."""
        if totals.reserved is None or totals.failed is None:
            return None
        orders = totals.reserved + totals.failed
        moment = time.monotonic() if now is None else now
        self._seen.append((moment, orders))
        while len(self._seen) > 2 and moment - self._seen[0][0] > RATE_SECONDS:  # noqa: PLR2004 - two make a rate
            self._seen.popleft()
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return max(0.0, after - before) / (last - first) if last > first else None


def invitation(stack: StackState, home: Home) -> tuple[str, ...]:
    """Return the lines of a first visit: pages to open, commands to paste."""
    pages = (f"    {line}" for line in page_lines(stack.ports))
    commands = (f"    {line}" for line in paste_lines(stack.ports, home, command=pipeline_command()))
    return ("", "In a browser:", "", *pages, "", "In another terminal:", "", *commands)


def error_lines(stack: StackState) -> str:
    """Say what keeps a part from running, and the way out."""
    return f"error: {stack.error}\n  way out: {stack.cure}"


def moved_line(port: Moved) -> str:
    """Say which port was given instead of the default."""
    if port.as_before:
        return f"{port.name} listens on {port.given}, as before (default: {port.wanted})"
    return f"port {port.wanted} is busy: {port.name} listens on {port.given}"


def lost_line(error: PortTakenError) -> str:
    """Say why the stack starts once more."""
    return f"{error.message}\nanother program took the port first: starting again on the next free port"


def changed_line(before: ProcessState | None, now: ProcessState) -> str | None:
    """Return a line when the process reached a state worth reporting, or takes long to."""
    if now.waits and (before is None or before.waits != now.waits):
        return f"{now.label:<18}{now.waits}"
    if before is not None and (before.state, before.pid) == (now.state, now.pid):
        return None
    if now.state not in {State.READY, State.RESTARTING, State.FAILED}:
        return None
    pid = f"  pid {now.pid}" if now.pid else ""
    listens_at = now.http_port or now.port
    port = f"  port {listens_at}" if listens_at else ""
    restarts = f"  restarts {now.restarts}" if now.restarts else ""
    return f"{now.label:<18}{state_word(now, Reading())}{pid}{port}{restarts}"


def state_word(process: ProcessState, reading: Reading) -> str:
    """Return the state as a user reads it: what the process says of itself counts more than that it runs."""
    if process.state is not State.READY:
        return process.state.value
    if reading.frozen:
        return "frozen"
    if reading.serves is False:
        return "not ready"
    return "ready" if process.pid else "done"


def process_table(stack: StackState, readings: Readings) -> Table:
    """Return a row per process, and the memory of all."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("process", "state"):
        table.add_column(heading)
    for heading in ("pid", "memory", "restarts", "port"):
        table.add_column(heading, justify="right")
    for process in stack.processes:
        reading = readings.processes.get(process.label, Reading())
        word = state_word(process, reading)
        port = process.http_port or process.port or stack.ports.get(process.label)
        table.add_row(
            process.label,
            Text(word, style=_STYLES.get(word, "dim")),
            str(process.pid or ""),
            megabytes(reading.memory_bytes),
            str(process.restarts or ""),
            str(port or ""),
        )
    table.add_row("", "", "", megabytes(sum(each.memory_bytes for each in readings.processes.values())), "", "")
    return table


def figures_line(readings: Readings, rate: float | None) -> str:
    """Return the figures in a line. A total that cannot be had is never replaced by a smaller number."""
    shown = {
        **({} if rate is None else {"orders/s": f"{rate:.1f}"}),
        "reserved": _count(readings.totals.reserved),
        "failed": _count(readings.totals.failed),
        "lag": _count(readings.lag_records),
    }
    return "   ".join(f"{name} {value}" for name, value in shown.items())


def megabytes(size_bytes: int) -> str:
    """Return the size for a table; empty for nothing."""
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes else ""


def _count(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"
