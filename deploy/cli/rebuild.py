"""`pipeline rebuild`: what a database lacks that was restored from a backup, out of the topics."""

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.cli.provision import provision_settings
from deploy.provision.config import ProvisionSettings
from deploy.rebuild.config import RebuildSettings
from deploy.rebuild.run import Rebuilt
from deploy.rebuild.run import rebuild as rebuild_all
from onceloop.errors import ExitCode

app = typer.Typer(**TYPER_OPTIONS)


@app.command(**example("look first, then do it, then prove it", "pipeline rebuild --dry-run", "pipeline rebuild"))
def rebuild(
    home: HomeOption = DEFAULT,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing; change nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a database that was restored from a backup up to what the topics say.

    Orders that were answered since the backup have events and no decisions: their stock would be sold again, so the
    workers refuse to go on. This reads the events (read_committed) and inserts the missing decisions, byte for byte,
    takes the stock that they hold, marks in the ledger who was notified, and notes how far the inventory has answered.
    The status of orders follows by itself. What stands is never changed; a second run changes nothing.

    Stop the workers of inventory and notification first; it refuses while they live. Where more was reserved than the
    restored shelf holds, because a restock is lost as well, it changes nothing and names the SKUs and the units. The
    servers are found as `pipeline provision` finds them. The exit code is 1 if something is left for you to do.
    """
    settings = _settings(provision_settings(home))
    found = rebuild_all(settings, dry_run=dry_run, report=_report if sys.stderr.isatty() else _silent)
    todo = list(_todo(found))
    if as_json:
        left = [{"what": what, "cure": cure} for what, cure in todo]
        typer.echo(json.dumps({**asdict(found), "dry_run": dry_run, "todo": left}, indent=2))
    else:
        _show(found, dry_run=dry_run)
        for what, cure in todo:
            typer.echo(f"error: {what}\n  way out: {cure}", err=True)
    if todo:
        raise typer.Exit(ExitCode.VIOLATION)


def _settings(found: ProvisionSettings) -> RebuildSettings:
    return RebuildSettings(**{name: getattr(found, name) for name in ProvisionSettings.model_fields})


def _show(found: Rebuilt, *, dry_run: bool) -> None:
    nothing = not (found.missing or found.notifications or found.progress)
    for what, missing in (
        ("decisions", f"{found.missing:,} ({found.reserved:,} reserved, {found.failed:,} failed)"),
        ("stock", f"{sum(found.units.values()):,} units of {len(found.units):,} SKUs that these hold"),
        ("notifications", f"{found.notifications:,}"),
        ("progress", f"on {len(found.progress):,} partitions"),
    ):
        typer.echo(f"{what:<14} missing: {missing}")
    if nothing:
        typer.echo("nothing is missing")
    elif found.changed:
        typer.echo("all of it is brought back; start the workers, then: pipeline verify")
    else:
        typer.echo("nothing was changed" + (": --dry-run" if dry_run else ""))


def _todo(found: Rebuilt) -> Iterator[tuple[str, str]]:
    """Yield what a person has to see to, each with the way out."""
    if found.short:
        yield (
            "more is reserved than the restored shelf holds: "
            + ", ".join(f"{sku} lacks {units:,}" for sku, units in found.short.items()),
            "restock what came in since the backup, at least: "
            + "; ".join(f"pipeline stock add {shlex.quote(sku)} {units}" for sku, units in found.short.items())
            + " (a SKU that is gone: `stock set`); then call this again",
        )
    for each in found.unanswered:
        ahead = f"stands at {each.committed} of {each.partition}, but {each.orders:,} orders from {each.first} on"
        yield (
            f"the group {ahead} have neither event nor decision: its offsets were set ahead",
            "pipeline offsets repair inventory: it sets them back, and no order is lost",
        )
    if found.differing:
        yield (
            f"{found.differing:,} decisions differ from their visible events: orders were decided on the old database",
            "keep all data and run `pipeline verify`: it names the orders",
        )
    if found.unreadable:
        yield f"{found.unreadable:,} outcomes or notifications cannot be read", "run `pipeline verify`: it names them"


def _report(what: str, reached: int, total: int) -> None:
    sys.stderr.write(f"\rreading {what}: {reached:,} of {total:,} offsets" + ("\n" if reached >= total else ""))
    sys.stderr.flush()


def _silent(_what: str, _reached: int, _total: int) -> None:
    """Keep a log file free of progress."""
