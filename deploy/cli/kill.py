"""`pipeline kill`: send a signal to a process of the stack, by name."""

import json
import signal
from enum import StrEnum
from typing import Annotated

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.local import home as homes
from deploy.local import state
from deploy.local.home import Home, NoStackError, NotRunningError
from deploy.local.process import signal_tree
from deploy.local.state import ProcessState
from onceloop.errors import UsageError

app = typer.Typer(**TYPER_OPTIONS)


class Signal(StrEnum):
    """What can be sent."""

    KILL = "KILL"
    STOP = "STOP"
    CONT = "CONT"
    TERM = "TERM"


_CONSEQUENCES = {
    Signal.KILL: "the supervisor starts it again",
    Signal.STOP: "it stands still; thaw it with --signal CONT",
    Signal.CONT: "it goes on",
    Signal.TERM: "it ends in order, and the supervisor starts it again",
}


def _running(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a process."""
    stack = state.current(homes.at(context.params.get("home") or DEFAULT))
    names = {name for each in (stack.processes if stack else ()) if each.pid for name in (each.name, each.label)}
    return sorted(name for name in names if name.startswith(incomplete))


@app.command(
    **example(
        "kill a worker, then prove that no order was lost or reserved twice",
        "pipeline kill inventory --slot 0",
        "pipeline verify",
    )
)
def kill(
    service: Annotated[str, typer.Argument(help="A service of `pipeline status`.", autocompletion=_running)],
    home: HomeOption = DEFAULT,
    *,
    slot: Annotated[int | None, typer.Option(min=0, help="Which one, where a service has several.")] = None,
    send: Annotated[Signal, typer.Option("--signal", case_sensitive=False, help="What to send.")] = Signal.KILL,
    as_json: JsonOption = False,
) -> None:
    """Kill a process in the middle of its work, as a power cut would; or freeze it, thaw it, end it in order."""
    process = _find(homes.at(home), service, slot)
    running = state.find(process.pid, process.started_at)
    if running is None:
        raise NotRunningError(f"{process.label} does not run now ({process.state})", cure="look again: pipeline status")
    number = signal.Signals[f"SIG{send}"]
    if send is Signal.TERM:
        running.send_signal(number)  # to the process alone: it ends its own workers in order
    else:
        signal_tree(process.pid, number)
    if as_json:
        sent = {"process": process.label, "pid": process.pid, "signal": number.name}
        typer.echo(json.dumps(sent, indent=2))
        return
    typer.echo(f"sent {number.name} to {process.label} (pid {process.pid}): {_CONSEQUENCES[send]}")


def _find(home: Home, service: str, slot: int | None) -> ProcessState:
    """Return the one process that is meant; ask for the slot when several are."""
    stack = state.current(home)
    if stack is None:
        raise NoStackError(home)
    named = [each for each in stack.processes if service in {each.name, each.label} and slot in {None, each.slot}]
    if not named:
        names = ", ".join(each.label for each in stack.processes)
        raise UsageError(f"no process {service!r}{'' if slot is None else f' in slot {slot}'}", cure=f"one of: {names}")
    if len(named) > 1:
        raise UsageError(f"{service} has {len(named)} slots", cure=f"say which: pipeline kill {service} --slot 0")
    return named[0]
