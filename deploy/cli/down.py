"""`pipeline down`: stop a stack from another terminal."""

from typing import Annotated

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, example
from deploy.local import home as homes
from deploy.local.stack import take_down

app = typer.Typer(**TYPER_OPTIONS)


@app.command(**example("stop, and forget every order", "pipeline down --volumes"))
def down(
    home: HomeOption = DEFAULT,
    *,
    volumes: Annotated[bool, typer.Option("--volumes", "-v", help="Remove the data, logs and secrets too.")] = False,
) -> None:
    """Stop everything that `pipeline up` started here, and wait until it is gone. The data stays."""
    place = homes.at(home)
    ran = take_down.stop(place)
    typer.echo(f"stopped the stack in {place.root}" if ran else f"nothing ran in {place.root}")
    if volumes:
        take_down.remove_data(place)
        typer.echo("removed its data")
