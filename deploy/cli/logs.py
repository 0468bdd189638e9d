"""`pipeline logs`: the processes' log files."""

import re
from pathlib import Path
from typing import Annotated

import typer

from common.errors import ConfigError
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, example
from deploy.local import home as homes
from deploy.local import logs as files
from deploy.local.home import Home

app = typer.Typer(**TYPER_OPTIONS)


@app.command(**example("watch both inventory workers", "pipeline logs inventory --follow"))
def logs(
    service: Annotated[str, typer.Argument(help="A service (all its slots), or one process such as inventory-0.")],
    home: HomeOption = DEFAULT,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 40,
) -> None:
    """Print the last lines of a log: controller, kafka, postgres, registry, provision, order-api, inventory, ..."""
    paths = _logs_of(homes.at(home), service)
    for path in paths:
        for line in files.last_lines(path, lines):
            _print(path, line, many=len(paths) > 1)
    if follow:
        for path, line in files.follow(paths):
            _print(path, line, many=len(paths) > 1)


def _logs_of(home: Home, service: str) -> list[Path]:
    known = sorted(home.logs.glob("*.log"))
    wanted = [path for path in known if service in {path.stem, re.sub(r"-\d+$", "", path.stem)}]
    if not wanted:
        names = ", ".join(path.stem for path in known) or "none, since no stack ran here yet"
        raise ConfigError(f"no log of {service!r} in {home.root}", cure=f"there are: {names}")
    return wanted


def _print(path: Path, line: str, *, many: bool) -> None:
    typer.echo(f"{path.stem} | {line}" if many else line)
