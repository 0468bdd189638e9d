"""`pipeline up`: the supervisor in the foreground, or in the background once it is ready."""

import os
import sys
from typing import Annotated

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, ServiceOption, example
from deploy.local import home as homes
from deploy.local.home import Home
from deploy.local.stack import background, supervisor
from deploy.local.stack.doctor import before_start
from deploy.local.stack.parts import Name, load
from deploy.local.stack.services import PROVISION
from deploy.local.stack.view import open_view
from onceloop.errors import ExitCode, ReportedError
from services.folder import load as load_services
from services.table import with_slots

SLOTS_MAX = 64
PASSING = {"memory", "disk"}
"""Scarce now, but perhaps not in a minute: warned about, and tried all the same."""
app = typer.Typer(**TYPER_OPTIONS)


class UnfitMachineError(ReportedError):
    """The stack cannot start on this machine as it is."""

    exit_code = ExitCode.CONFIG


@app.command(
    **example(
        "four workers, in a folder of their own, in the background",
        "pipeline up --inventory 4 --home /tmp/shop --detach",
    )
)
def up(
    home: HomeOption = DEFAULT,
    *,
    inventory: Annotated[int, typer.Option(min=1, max=SLOTS_MAX, help="Inventory workers, one per slot.")] = 2,
    parts: Annotated[
        list[Name] | None,
        typer.Option("--with", help="Also start this optional part; may be repeated.", show_default=False),
    ] = None,
    folders: ServiceOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once all is ready.")] = False,
) -> None:
    """Start the whole pipeline: Kafka, PostgreSQL, the schema registry and the services.

    It stays in the foreground; Ctrl-C stops all of it within ten seconds and keeps the data. What falls is started
    again in its slot. A busy port is replaced by the next free one, and named.

    Optional parts: connect (Kafka Connect, which copies outcomes and minutes into other stores without code),
    monitoring (Prometheus over all processes, with alert rules, and an exporter that sees the broker from outside).
    A service of your own runs beside the others with --service FOLDER (docs/howto/add-a-service.md).
    """
    place = homes.at(home)
    chosen = tuple(load(name) for name in dict.fromkeys(parts or ()))
    added = load_services(folders or ())
    of_folders = [argument for each in added for argument in ("--service", str(each.service.folder))]
    for part in chosen:
        part.check_machine()
    supervisor.refuse_second(place)
    if detach:
        asked = [argument for name in parts or () for argument in ("--with", name.value)]
        arguments = ("--home", str(place.root), "--inventory", str(inventory), *asked, *of_folders)
        code = background.start(place, arguments, show=show_line)
        raise typer.Exit(code)
    _refuse_unfit_machine(place)
    with open_view(place) as view:
        table = (*with_slots({"inventory": inventory}), *(each.service for each in added))
        supervisor.run(supervisor.Plan(place, table, provision=(*PROVISION, *of_folders), parts=chosen), view)


def _refuse_unfit_machine(place: Home) -> None:
    """Say first what `pipeline doctor` would find. Raises UnfitMachineError where a start could not succeed."""
    for check in before_start(place):
        if check.ok:
            continue
        if check.name not in PASSING:
            raise UnfitMachineError(f"{check.name}: {check.finding}", cure=check.cure)
        typer.echo(f"warning: {check.name}: {check.finding}\n  way out: {check.cure}", err=True)


def show_line(line: str) -> None:
    """Print a line, or nothing once the reader is gone: the stack goes on behind `up --detach | head`."""
    try:
        typer.echo(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # also for what is flushed at the end
