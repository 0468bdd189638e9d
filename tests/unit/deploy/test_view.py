import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.live import Live

from deploy.local.home import Home
from deploy.local.stack.hints import paste_lines
from deploy.local.stack.ports import Moved
from deploy.local.stack.readings import Reading, Readings
from deploy.local.stack.state import Phase, ProcessState, StackState
from deploy.local.stack.totals import Totals
from deploy.local.stack.view import LiveView, PlainView, Rate, changed_line, figures_line, moved_line, state_word
from deploy.local.supervise.runner import State


def make_process(state: State = State.READY, *, pid: int = 7, restarts: int = 0) -> ProcessState:
    return ProcessState("inventory-0", "inventory", 0, state, pid, 0.0, restarts, port=8091)


def test_process_that_says_it_does_not_serve_is_not_called_ready() -> None:
    assert state_word(make_process(), Reading(serves=True)) == "ready"
    assert state_word(make_process(), Reading(serves=False)) == "not ready"
    assert state_word(make_process(), Reading(serves=False, frozen=True)) == "frozen"
    assert state_word(make_process(State.RESTARTING), Reading()) == "restarting"
    assert state_word(make_process(pid=0), Reading()) == "done"


def test_line_is_printed_when_a_process_gets_ready_and_not_again() -> None:
    assert changed_line(None, make_process()) == "inventory-0       ready  pid 7  port 8091"
    assert changed_line(make_process(), make_process()) is None
    assert changed_line(None, make_process(State.STARTING)) is None


def test_line_is_printed_now_and_then_of_a_start_that_takes_long() -> None:
    early = replace(make_process(State.STARTING), waits="starting for 20 s: it is using the CPU")
    assert (
        changed_line(make_process(State.STARTING), early) == "inventory-0       starting for 20 s: it is using the CPU"
    )
    assert changed_line(early, early) is None


def test_line_of_a_restart_says_how_many_there_were() -> None:
    line = changed_line(make_process(), make_process(State.RESTARTING, pid=0, restarts=2))
    assert line == "inventory-0       restarting  port 8091  restarts 2"


def test_figures_that_cannot_be_had_are_unknown_and_no_smaller_number() -> None:
    assert figures_line(Readings(), None) == "reserved unknown   failed unknown   lag unknown"
    known = Readings(totals=Totals(1234, 5), lag_records=0)
    assert figures_line(known, 17.25) == "orders/s 17.2   reserved 1,234   failed 5   lag 0"


def test_rate_is_of_the_last_seconds_alone() -> None:
    rate = Rate()
    assert rate.of(Totals(0, 0), now=0.0) is None
    assert rate.of(Totals(90, 10), now=1.0) == 100
    assert rate.of(Totals(90, 10), now=5.0) == 20
    assert rate.of(Totals(90, 10), now=20.0) == 0


def test_rate_is_unknown_while_the_totals_are() -> None:
    rate = Rate()
    rate.of(Totals(1, 0), now=0.0)
    assert rate.of(Totals(), now=1.0) is None
    assert rate.of(Totals(4, 1), now=2.0) == 2


def test_moved_port_is_named_with_what_listens_on_it() -> None:
    assert moved_line(Moved("api", 8080, 8085, as_before=False)) == "port 8080 is busy: api listens on 8085"
    assert moved_line(Moved("api", 8080, 8085, as_before=True)) == "api listens on 8085, as before (default: 8080)"


def test_hint_how_to_stop_names_the_folder_of_the_stack(tmp_path: Path) -> None:
    text = io.StringIO()
    view = PlainView(Console(file=text), Home(tmp_path))
    view.show(StackState(pid=1, started_at=0.0, phase=Phase.READY, ports={"api": 8080}, processes=()), Readings())
    assert f"pipeline down --home {tmp_path}, or Ctrl-C" in text.getvalue()


def ready(home: Home) -> tuple[list[str], str]:
    """Return the lines that a terminal of 80 columns and 24 lines keeps above the table, and the table."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, height=24, color_system=None)
    live = Live(console=console, auto_refresh=False)
    view = LiveView(console, home, live)
    processes = tuple(replace(make_process(), label=f"process-{number}") for number in range(12))
    stack = StackState(pid=1, started_at=0.0, phase=Phase.READY, ports={"api": 8080}, processes=processes)
    for _ in range(2):
        view.show(stack, Readings())
    kept = text.getvalue().splitlines()
    console.print(live.renderable)
    return kept, "\n".join(text.getvalue().splitlines()[len(kept) :])


def test_what_to_open_and_to_paste_stands_whole_above_the_table_and_once(tmp_path: Path) -> None:
    """It stood below the table, cut at 80 columns, where a terminal of 24 lines no longer shows it."""
    kept, table = ready(Home(tmp_path))
    assert "    the API     http://localhost:8080/docs" in kept
    assert [line for line in kept if line.startswith("    curl -i")] == [
        f"    {line}" for line in paste_lines({"api": 8080}, Home(tmp_path), command="pipeline")[:1]
    ]
    assert table.count("\n") < 20
