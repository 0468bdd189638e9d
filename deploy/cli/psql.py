"""`pipeline psql`: PostgreSQL's own shell on the pipeline's database, as a role that can only read."""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import typer
from psycopg.conninfo import conninfo_to_dict

from common.config import PostgresSettings
from deploy.cli.access import postgres_settings
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, example
from deploy.local.postgres import programs
from onceloop.errors import ConfigError

ROLE = "reader"
app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[OPTIONS] [ARGUMENTS OF PSQL]...",
    **example(
        "the last five reservations, then what is left of each SKU",
        "pipeline psql -c 'select * from reservations order by decided_at desc limit 5'",
        "pipeline psql -c 'select * from stock_balance' --csv",
    ),
)
def psql(context: typer.Context, home: HomeOption = DEFAULT) -> None:
    r"""Open the pipeline's database, read-only; all further arguments are psql's own.

    Tables and views stand in the schemas inventory, orders and notification and need no prefix. Begin with \d.
    """
    settings = postgres_settings(home, ROLE)
    program = _program()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as pass_file:  # mode 0600, as libpq demands
        pass_file.write(_pass_line(settings))
        pass_file.flush()
        url = f"{settings.postgres_url}?application_name=pipeline-psql&passfile={quote(pass_file.name, safe='')}"
        shell = subprocess.Popen([program, "-d", url, *context.args])
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C cancels psql's query and leaves us waiting for psql
        code = shell.wait()
    raise typer.Exit(code)


def _program() -> str:
    """Return the packaged psql, or the one of the system."""
    try:
        packaged: Path | None = programs() / "psql"
    except ConfigError:
        packaged = None
    if packaged is not None and packaged.exists():
        return str(packaged)
    found = shutil.which("psql")
    if found is None:
        raise ConfigError("there is no psql on this machine", cure="pip install -e '.[local]' (or: make setup)")
    return found


def _pass_line(settings: PostgresSettings) -> str:
    """Return the one line of a .pgpass file; a colon or a backslash in a field is escaped."""
    at = {"host": "localhost", "port": 5432, **conninfo_to_dict(settings.postgres_url)}
    password = settings.postgres_password.get_secret_value()
    fields = [*(str(at[name]) for name in ("host", "port", "dbname", "user")), password]
    return ":".join(field.replace("\\", "\\\\").replace(":", "\\:") for field in fields) + "\n"
