"""`pipeline env`: the variables that lead a program to a running stack."""

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.local import home as homes
from deploy.local.home import ROLES
from deploy.local.loopback import LOOPBACK
from deploy.local.ports import recall
from deploy.local.servers import addresses_of
from deploy.local.services import service_environment
from onceloop.errors import ConfigError, UsageError

API = "api"
app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    **example(
        "run a worker of your own beside the stack, in a free slot",
        'eval "$(pipeline env --role inventory_rw)"',
        "PIPELINE_SLOT=7 python -m inventory_service",
    )
)
def env(
    home: HomeOption = DEFAULT,
    *,
    role: Annotated[str, typer.Option(help=f"Database role: {', '.join(ROLES)}.")] = "reader",
    as_json: JsonOption = False,
) -> None:
    """Print where the API, Kafka, the registry and PostgreSQL are, as `export` lines. Passwords stay in their files."""
    if role not in ROLES:
        raise UsageError(f"no role {role!r}", cure=f"one of: {', '.join(ROLES)}")
    place = homes.at(home)
    variables = {"PIPELINE_HOME": str(place.root), **service_environment(addresses_of(place), role)}
    if (port := recall(place).get(API)) is not None:  # none where only servers were started
        variables["PIPELINE_API_URL"] = f"http://{LOOPBACK}:{port}"
    if as_json:
        typer.echo(json.dumps(variables, indent=2))
        return
    _refuse_unprintable(variables)
    for name, value in variables.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def _refuse_unprintable(variables: Mapping[str, str]) -> None:
    """Raise ConfigError for a value that the output's encoding lacks: a shell would take its escape for the value."""
    for name, value in variables.items():
        try:
            value.encode(sys.stdout.encoding)
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{name} cannot be written in {sys.stdout.encoding}", cure="use a UTF-8 locale, or --json"
            ) from error
