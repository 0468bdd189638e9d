"""`pipeline demo`: the whole pipeline in a minute, on a stack of its own that is gone afterwards."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.cli import kill, verify
from deploy.cli.demo_orders import INSUFFICIENT, ORDERS, Api, DemoError, Wanted, body, complaints, decided
from deploy.cli.options import TYPER_OPTIONS, example
from deploy.cli.running import running
from deploy.cli.throwaway import throwaway
from deploy.local import home as homes
from deploy.local.home import DEFAULT_HOME, Home
from deploy.local.stack import hints, ports, state
from deploy.local.stack.state import StackState
from deploy.local.supervise.runner import State

BACK_SECONDS_MAX = 30.0
OUTCOME_SECONDS_MAX = 60.0
VERIFY_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1
KILLED_AFTER = 7
"""Orders; most of those that follow are for the worker that is dead then."""
VICTIM, VICTIM_SLOT = "inventory", 0
WIDTH_MIN = 112

Placed = Sequence[tuple[Wanted, str]]
Orders = Sequence[tuple[Wanted, str, Mapping[str, Any]]]
app = typer.Typer(**TYPER_OPTIONS)


@app.command(**example("then have it to yourself", "pipeline demo", "pipeline up"))
def demo() -> None:
    """Start a stack, place twenty orders, kill a worker in the middle, show what became of each, prove the books.

    It uses free ports and a temporary folder, touches no other stack, and takes everything down at the end. The exit
    code is 0 if every order came out as it must and `pipeline verify` finds nothing.
    """
    console = _console()
    began = time.monotonic()
    with throwaway("demo") as place, running(place, console, "--inventory", "2") as stack:
        _say(console, f"Up after {time.monotonic() - began:.0f} s: Kafka, PostgreSQL, registry and five services.")
        api = Api(stack.ports["api"])
        placed = _place(api, place.home, console)
        _try_refusals(api, placed, console)
        _await_return(stack, place.home, console)
        orders = _await_outcomes(api, placed, console)
        console.print()
        console.print(_table(orders))
        console.print("Those decided last waited for the killed worker.", style="dim")
        if wrong := complaints(orders):
            raise DemoError("\n".join(wrong), cure="pipeline up, then place the same order and look at its story")
        _say(console, "The proof, from topics and tables alone:")
        verify.verify(place.home.root, wait=VERIFY_SECONDS_MAX, not_restocked=True)
    console.print(f"\nAll of it is gone again; it took {time.monotonic() - began:.0f} s.", style="dim")
    _invite(console)


def _place(api: Api, home: Home, console: Console) -> Placed:
    """Place all orders one after the other; kill a worker on the way, without a pause before or after."""
    placed: list[tuple[Wanted, str]] = []
    _say(console, f"Placing {len(ORDERS)} orders, and killing a worker after {KILLED_AFTER} of them:")
    for number, wanted in enumerate(ORDERS, 1):
        placed.append((wanted, api.place(wanted, key=_key(number))))
        if number == KILLED_AFTER:
            kill.kill(VICTIM, home=home.root, slot=VICTIM_SLOT, send=kill.Signal.KILL)
    waiting = sum(not decided(api.order(order_id)) for _, order_id in placed)
    console.print(f"all {len(placed)} are accepted; {waiting} of them have no outcome yet")
    return placed


def _try_refusals(api: Api, placed: Placed, console: Console) -> None:
    """Repeat a key, with the same body and with another one, and send what is no order."""
    (first, order_id), (other, _) = placed[0], placed[1]
    impossible = {"user_id": first.user_id, "lines": [{"sku": "tea", "quantity": 0}]}
    again = api.post(body(first), key=_key(1))
    _expect(again.document.get("order_id") == order_id, f"the same key and body gave {again}")
    console.print(f"the first one again, same key and body -> {again.status}, the same order")
    conflict = api.post({**body(other), "user_id": first.user_id}, key=_key(1))
    _expect(conflict.status == 422, f"the same key with another body gave {conflict}")  # noqa: PLR2004 - what the API documents
    console.print(f"the same key, another body -> {conflict.status} {conflict.document.get('title')}")
    refused = api.post(impossible, key=_key(0))
    _expect(refused.status == 400, f"a quantity of 0 gave {refused}")  # noqa: PLR2004 - as above
    errors = "; ".join(f"{each.get('field')} {each.get('message')}" for each in refused.document.get("errors", ()))
    console.print(f"a quantity of 0 -> {refused.status} {errors}", markup=False)


def _await_return(before: StackState, home: Home, console: Console) -> None:
    """Wait until the supervisor has the killed worker up again, in its slot."""
    label = f"{VICTIM}-{VICTIM_SLOT}"
    [killed] = [each for each in before.processes if each.label == label]
    deadline = time.monotonic() + BACK_SECONDS_MAX
    with console.status(f"waiting for {label}"):
        while time.monotonic() < deadline:
            stack = state.read(home)
            for each in stack.processes if stack else ():
                if each.label == label and each.state is State.READY and each.pid not in {0, killed.pid}:
                    console.print(f"{label} is back: pid {killed.pid} was killed, pid {each.pid} took over its slot")
                    return
            time.sleep(POLL_SECONDS)
    raise DemoError(f"{label} did not come back within {BACK_SECONDS_MAX:.0f} s", cure="see pipeline logs inventory")


def _await_outcomes(api: Api, placed: Placed, console: Console) -> Orders:
    """Ask until every order has its outcome and its customer knows; return them as they stand at the end."""
    deadline = time.monotonic() + OUTCOME_SECONDS_MAX
    with console.status("waiting for outcomes and notifications") as line:
        while True:
            orders = [(wanted, order_id, api.order(order_id)) for wanted, order_id in placed]
            notified = sum(bool(order.get("notified")) for _, _, order in orders)
            outcomes = sum(decided(order) for _, _, order in orders)
            line.update(f"{outcomes} of {len(orders)} have their outcome, {notified} customers are notified")
            if notified == outcomes == len(orders) or time.monotonic() > deadline:
                return orders
            time.sleep(POLL_SECONDS)


def _table(orders: Orders) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("order", "customer", "wants", "outcome", "because of"):
        table.add_column(heading)
    table.add_column("decided after", justify="right")
    table.add_column("notified")
    for wanted, order_id, order in orders:
        table.add_row(
            order_id[-8:],
            wanted.user_id,
            ", ".join(f"{quantity} {sku}" for sku, quantity in wanted.lines.items()),
            _outcome(order),
            _lacking(order),
            _decided_after(order),
            "yes" if order.get("notified") else "no",
        )
    return table


def _outcome(order: Mapping[str, Any]) -> Text:
    if not decided(order):
        return Text("none", style="red")
    failed = order["reason"] is not None
    return Text(str(order["reason"]).replace("_", " ") if failed else "reserved", style="yellow" if failed else "green")


def _lacking(order: Mapping[str, Any]) -> str:
    if not (lacking := order.get("lacking")):
        return ""
    left = f", {lacking['available']} left" if order["reason"] == INSUFFICIENT else ""
    return f"{lacking['requested']} {lacking['sku']}{left}"


def _decided_after(order: Mapping[str, Any]) -> str:
    if not decided(order):
        return "-"
    placed_at, decided_at = (datetime.fromisoformat(order[which]) for which in ("placed_at", "decided_at"))
    return f"{(decided_at - placed_at).total_seconds() * 1000:,.0f} ms"


def _invite(console: Console) -> None:
    command = hints.pipeline_command()
    _say(console, f"Now your own: {command} up (or: make up), and in another terminal:")
    for line in hints.paste_lines(ports.defaults(), homes.at(DEFAULT_HOME), command=command):
        console.print(f"    {line}", markup=False, soft_wrap=True, style="cyan")


def _expect(true: bool, otherwise: str) -> None:  # noqa: FBT001 - as an assert takes it
    if not true:
        raise DemoError(otherwise)


def _key(number: int) -> str:
    return f"demo-{number}"


def _say(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold", soft_wrap=True)


def _console() -> Console:
    """Return the terminal, or a page that is wide enough for the table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, WIDTH_MIN))
