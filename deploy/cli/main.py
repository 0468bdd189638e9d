"""The `pipeline` command: a table of subcommands, each loaded only when it is called.

To add one, put a row into `COMMANDS` and write `deploy/cli/<name>.py` with a `typer.Typer` called `app`: one
`@app.command()` for a plain subcommand, several for a group such as `pipeline stock set`. The module's docstring is
for maintainers; users read the function's. Take from `deploy.cli.options`: `TYPER_OPTIONS` for the `typer.Typer`,
`example` for the `@app.command`, `HomeOption` and `JsonOption`. Raise `ReportedError` for whatever a user should
read: here it becomes two lines and its exit code. A traceback is shown only on request: `python -X dev`.
"""

import importlib
import platform
import sys
import traceback
from collections.abc import Sequence
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from common.runbook import way_out
from deploy import VERSION
from deploy.cli.options import TYPER_OPTIONS
from deploy.cli.terminal import take_any_text
from onceloop.errors import ConfigError, ReportedError

COMMANDS = MappingProxyType(
    {
        "up": "Start the whole pipeline here; Ctrl-C stops all of it.",
        "down": "Stop what `up --detach` started; --volumes removes the data.",
        "status": "Show what runs: processes, memory, orders, lag.",
        "logs": "Print a process's log, and follow it.",
        "kill": "Kill, freeze or thaw a process and see the rest survive.",
        "doctor": "Check this machine; every finding comes with its cure.",
        "env": "Print the variables that lead a shell to the running stack.",
        "provision": "Make roles, tables, topics, schemas and demo stock.",
        "topics": "List topics, or give them more partitions.",
        "rebuild": "Bring a restored database up to what the topics say.",
        "schemas": "List, check, compare, publish and register event schemas.",
        "offsets": "Set a group's offsets from what topics and tables prove.",
        "stock": "List, set or add stock.",
        "psql": "Open the pipeline's database.",
        "order": "Show one order's story across HTTP, topics and tables.",
        "metrics": "Show orders per minute; --follow draws them as they come.",
        "exporter": "Export lag, stuck transactions, broker, balance to Prometheus.",
        "verify": "Prove the books from topics and tables; name the culprit.",
        "demo": "See it all in a minute: orders, outcomes, a kill, the proof.",
        "chaos": "Inject faults into a pipeline of its own; prove the books.",
        "bench": "Measure how many orders per second are reserved.",
    }
)
EPILOG = """\
Begin with: pipeline up. Each command explains itself: pipeline up --help

\b
Exit codes:
  0   success, or yes
  1   the answer is no: a rule of the books is broken, a schema is incompatible
  2   wrong usage: no such option, process, SKU or order, or an impossible value
  70  a bug, or a broken invariant
  75  not now: something is not running or does not answer
  78  a setting, a folder or the environment is wrong
"""


class LazyCommand(TyperCommand):
    """A row of the table: knows its help line, and loads its module when it is run or asked for its own help."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,
        **extra: Any,
    ) -> Any:
        """Let the real command take over."""
        return load(str(self.name)).make_context(info_name, args, parent=parent, **extra)


def _row(name: str, line: str) -> LazyCommand:
    return LazyCommand(name, callback=None, help=line, rich_markup_mode=None)


class LazyGroup(TyperGroup):
    """The table as a command, and the place where exceptions become exit codes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: _row(name, line) for name, line in COMMANDS.items()}

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run; report an error in two lines instead of a traceback."""
        take_any_text()
        try:
            return super().main(args, *rest, **extra)
        except ReportedError as error:
            sys.exit(report(error))
        except Exception as error:  # noqa: BLE001 - the outermost frame: no caller is left to turn it into words
            sys.exit(report(unexpected(error)))


app = typer.Typer(
    cls=LazyGroup,
    name="pipeline",
    help="Run, watch, break and prove the order pipeline.",
    epilog=EPILOG,
    no_args_is_help=True,
    **(TYPER_OPTIONS | {"add_completion": True}),
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer passes an option's value so
    if wanted:
        typer.echo(f"pipeline {VERSION}, Python {platform.python_version()}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Have no options but these; every command has its own."""


def load(name: str) -> Any:
    """Import a subcommand's module and return its command."""
    module = f"deploy.cli.{name}"
    try:
        return typer.main.get_command(importlib.import_module(module).app)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise ConfigError(f"`pipeline {name}` is not in this checkout", cure="git pull") from error
        raise ConfigError(
            f"`pipeline {name}` needs the package {error.name}", cure="pip install -e '.[local]' (or: make setup)"
        ) from error


def report(error: ReportedError) -> int:
    """Write what is wrong and the way out to the standard error; return the exit code."""
    sys.stderr.write(f"error: {error.message}\n")
    if cure := way_out(error):
        sys.stderr.write(f"  way out: {cure}\n")
    return int(error.exit_code)


def unexpected(error: Exception) -> ReportedError:
    """Put an unforeseen error into words."""
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    if isinstance(error, OSError):
        return ReportedError(str(error), cure="check that path or address; `pipeline doctor` checks the machine")
    return ReportedError(
        f"internal error, {type(error).__name__}: {error}",
        cure="please report it, with the traceback of: python -X dev -m deploy.cli.main " + " ".join(sys.argv[1:]),
    )


if __name__ == "__main__":
    app(prog_name="pipeline")
