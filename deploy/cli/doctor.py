"""`pipeline doctor`: look at the machine before it disappoints."""

import json
from dataclasses import asdict

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.local import home as homes
from deploy.local.doctor import Check, examine
from onceloop.errors import ExitCode

app = typer.Typer(**TYPER_OPTIONS)


@app.command(**example("what is wrong, for a script", "pipeline doctor --json | jq '.[] | select(.ok | not)'"))
def doctor(home: HomeOption = DEFAULT, *, as_json: JsonOption = False) -> None:
    """Check Python, Java, PostgreSQL, memory, disk, ports and the cache. Every finding comes with its cure.

    The exit code is 0 when the stack can start, 75 otherwise.
    """
    checks = examine(homes.at(home))
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for check in checks:
            _print(check)
    if not all(check.ok for check in checks):
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _print(check: Check) -> None:
    typer.echo(f"{'ok ' if check.ok else 'BAD'}  {check.name:<12} {check.finding}")
    if check.cure:
        typer.echo(f"{'':<18}{'note' if check.ok else 'way out'}: {check.cure}")
