"""What `pipeline verify --sinks` prints: a row per table of `analytics`, and the first rows that are wrong."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from audit.config import CheckerSettings
from audit.sinks import Comparison, compare_sinks
from onceloop.errors import ExitCode

SHOWN_PER_TABLE = 3
NAMED_MAX = 100
CURE = "way out: see that the connectors run (pipeline status); the recipe to copy again is in docs/connect.md"


def verify_sinks(settings: CheckerSettings, *, wait_seconds: float, as_json: bool) -> None:
    """Compare, print, and exit with 1 if a row differs."""
    compared = compare_sinks(settings, wait_seconds=wait_seconds)
    sound = not any(each.differences for each in compared)
    if as_json:
        typer.echo(json.dumps({"sound": sound, "tables": [_as_fields(each) for each in compared]}, indent=2))
    else:
        show(compared, Console(highlight=False))
    if not sound:
        raise typer.Exit(ExitCode.VIOLATION)


def show(compared: Sequence[Comparison], console: Console) -> None:
    """Print each table, the first rows that are wrong, and the result in one line."""
    table = Table("table", "topic", box=None, pad_edge=False)
    for heading in ("keys on the topic", "rows", "wrong"):
        table.add_column(heading, justify="right")
    for each in compared:
        style = "red" if each.differences else None
        figures = (f"{each.keys:,}", f"{each.rows:,}", f"{len(each.differences):,}")
        table.add_row(each.table, each.topic, *figures, style=style)
    console.print(table)
    for each in compared:
        for difference in each.differences[:SHOWN_PER_TABLE]:
            console.print(f"{each.table} {difference.key} {difference.what}", style="red", soft_wrap=True, markup=False)
    wrong = sum(len(each.differences) for each in compared)
    rows = sum(each.rows for each in compared)
    console.print(
        f"{wrong:,} of {rows:,} rows wrong or absent" if wrong else f"all {rows:,} rows are what the topics say",
        style="bold red" if wrong else "bold green",
    )
    if wrong:
        console.print(CURE, soft_wrap=True)


def _as_fields(compared: Comparison) -> dict[str, object]:
    named = [difference._asdict() for difference in compared.differences[:NAMED_MAX]]
    return {**asdict(compared), "wrong": len(compared.differences), "differences": named}
