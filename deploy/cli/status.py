"""`pipeline status`: one look at a running stack."""

import json
from dataclasses import asdict

import typer
from rich.console import Console

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.local import home as homes
from deploy.local import readings, state
from deploy.local.home import NoStackError
from deploy.local.parts import load
from deploy.local.readings import Readings
from deploy.local.state import Phase, StackState
from deploy.local.view import error_lines, figures_line, process_table, state_word
from onceloop.errors import ExitCode

app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    **example("wait in a script until the stack is up", "until pipeline status --json > stack.json; do sleep 1; done")
)
def status(home: HomeOption = DEFAULT, *, as_json: JsonOption = False) -> None:
    """Show each process with its state, pid, memory and restarts; then the orders decided in all, and the lag.

    The exit code is 0 while the whole stack is ready, 75 otherwise.
    """
    place = homes.at(home)
    stack = state.current(place)
    if stack is None:
        raise NoStackError(place)
    taken = readings.take(place, stack.processes)
    if as_json:
        typer.echo(json.dumps(_as_fields(stack, taken), indent=2))
    else:
        _print(stack, taken)
    if stack.phase is not Phase.READY:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _print(stack: StackState, taken: Readings) -> None:
    console = Console()
    console.print(process_table(stack, taken))
    console.print(figures_line(taken, None), highlight=False)
    console.print(f"stack {stack.phase}", highlight=False)
    for line in (line for lines in _said_by_parts(stack).values() for line in lines):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if stack.error:
        console.print(error_lines(stack), highlight=False, markup=False, soft_wrap=True)


def _as_fields(stack: StackState, taken: Readings) -> dict[str, object]:
    processes = [
        {
            **asdict(process),
            "state": state_word(process, taken.processes[process.label]),
            "memory_bytes": taken.processes[process.label].memory_bytes,
        }
        for process in stack.processes
    ]
    figures = {"totals": asdict(taken.totals), "lag_records": taken.lag_records}
    return {**asdict(stack), "processes": processes, **figures, "parts": _said_by_parts(stack)}


def _said_by_parts(stack: StackState) -> dict[str, list[str]]:
    """Return what each optional part says of itself, while the stack runs."""
    return {name: list(load(name).lines(stack.ports)) if stack.pid else [] for name in stack.parts}
