"""`pipeline logs`: the processes' log files."""

import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.local import home as homes
from deploy.local import logs as files
from deploy.local.home import Home, NoStackError
from onceloop.errors import UsageError

app = typer.Typer(**TYPER_OPTIONS)


def _logged(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a log."""
    known = homes.at(context.params.get("home") or DEFAULT).logs.glob("*.log")
    return sorted(path.stem for path in known if path.stem.startswith(incomplete))


@app.command(
    **example(
        "watch both inventory workers, then the warnings in a script",
        "pipeline logs inventory --follow",
        "pipeline logs inventory --json -n 1000 | jq 'select(.level == \"warning\")'",
    )
)
def logs(
    service: Annotated[
        str,
        typer.Argument(help="A service (all its slots), or one process such as inventory-0.", autocompletion=_logged),
    ],
    home: HomeOption = DEFAULT,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 40,
    as_json: JsonOption = False,
) -> None:
    """Print the last lines of a log: controller, kafka, postgres, registry, provision, order-api, inventory, ...

    In a terminal, our own lines are formatted for people; elsewhere they stay JSON.
    """
    paths = _logs_of(homes.at(home), service)
    show = _as_json if as_json else _shown(many=len(paths) > 1)
    for path in paths:
        for line in files.last_lines(path, lines):
            typer.echo(show(path, line))
    if follow:
        for path, line in files.follow(paths):
            typer.echo(show(path, line))


def _logs_of(home: Home, service: str) -> list[Path]:
    if not home.logs.is_dir():
        raise NoStackError(home)
    known = sorted(home.logs.glob("*.log"))
    wanted = [path for path in known if service in {path.stem, re.sub(r"-\d+$", "", path.stem)}]
    if not wanted:
        names = ", ".join(path.stem for path in known) or "none, since no stack ran here yet"
        raise UsageError(f"no log of {service!r} in {home.root}", cure=f"there are: {names}")
    return wanted


def _as_json(path: Path, line: str) -> str:
    from deploy.cli.log_lines import as_json

    return as_json(path.stem, line)


def _shown(*, many: bool) -> Callable[[Path, str], str]:
    """Return what formats a line for the standard output."""
    set_out: Callable[[str], str] = str
    if sys.stdout.isatty():
        from deploy.cli.log_lines import readable

        set_out = partial(readable, colors="NO_COLOR" not in os.environ)
    return lambda path, line: f"{path.stem} | {set_out(line)}" if many else set_out(line)
