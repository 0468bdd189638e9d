"""What the subcommands share: their options, their examples, and how Typer is to behave."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from deploy.local.home import DEFAULT_HOME

TYPER_OPTIONS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # plain text, the same everywhere, and ready in half the time
}

DEFAULT = DEFAULT_HOME
"""The default of `home`; `deploy.local.home.at(home)` turns the path into a `Home`."""

HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="PIPELINE_HOME",
        metavar="DIR",
        help="The stack's folder: data, logs, secrets, ports. Another folder is another stack.",
    ),
]

ServiceOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--service",
        metavar="FOLDER",
        help="Add the service in this folder; may be repeated.",
        show_default=False,
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def example(what: str, *lines: str) -> dict[str, Any]:
    """Return the arguments of `@app.command` that end its help with an example to paste."""
    return {"cls": TeachingCommand, "epilog": "\n".join((f"Example: {what}", *(f"  {line}" for line in lines)))}


class TeachingCommand(TyperCommand):
    """A command whose epilog keeps its line breaks."""

    def format_epilog(self, _ctx: Any, formatter: Any, /) -> None:
        """Write it as it stands."""
        formatter.write(f"\n{self.epilog}\n")
