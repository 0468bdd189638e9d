"""`pipeline offsets`: set a group's offsets to where topics and tables prove that it belongs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.topics import INVENTORY, NOTIFICATION, ORDER_STATUS
from deploy.cli.access import connected_by_engine, kafka_settings
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from deploy.offsets.earliest import EarliestOffsets, Standing
from deploy.offsets.plan import Facts
from deploy.offsets.repair import InventoryOffsets, Repair

ROLE = "reader"
app = typer.Typer(
    help="Set a group's offsets from what topics and tables prove.", no_args_is_help=True, **TYPER_OPTIONS
)


class GroupName(StrEnum):
    """The groups whose offsets can be worked out."""

    INVENTORY = INVENTORY.name
    NOTIFICATION = NOTIFICATION.name
    ORDER_STATUS = ORDER_STATUS.name


@app.callback()
def _root() -> None:
    """Keep `repair` a command of its own, though it is the only one."""


@app.command("repair", **example("see what it would do, then do it", "pipeline offsets repair inventory --dry-run"))
def repair(
    group: Annotated[GroupName, typer.Argument(help="The group whose workers are all stopped.")],
    home: HomeOption = DEFAULT,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show where it stands and belongs; set nothing.")] = False,
    skip_removed: Annotated[
        bool,
        typer.Option(
            "--skip-removed", help="Go on behind orders that retention has removed unanswered: they are lost."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Set the group's offsets from what topics and tables prove.

    For a group that lost its offsets, or whose offsets were set by hand, are old, or hung in a transaction. Those of
    `inventory` go behind the last order that a visible event or a dead letter answers: it reads all outcomes
    (read_committed) and the tables, and is refused where PostgreSQL lacks a decision whose event is visible. Those of
    `notification` and `order-status` go to the earliest record wherever they cannot be believed: no customer is
    notified twice, no status goes back. Refused while the group has members. Run twice, it changes nothing the
    second time.
    """
    if group is not GroupName.INVENTORY:
        _repair_to_earliest(home, group, dry_run=dry_run, as_json=as_json)
        return
    offsets = InventoryOffsets(kafka_settings(home))
    with connected_by_engine(home, ROLE, target="any") as connection:
        found = offsets.look(connection, skip_removed=skip_removed, report=_report if sys.stderr.isatty() else _silent)
    _show(found, as_json=as_json)
    if not dry_run:
        offsets.set(found)
        _say("nothing to set" if not found.changes else f"set on {len(found.changes)} partitions", as_json=as_json)
        return
    for what, cure in found.hindrances:
        _say(f"refused as long as: {what}\n  way out: {cure}", as_json=as_json)
    _say("nothing was set: --dry-run", as_json=as_json)


def _repair_to_earliest(home: Path, group: GroupName, *, dry_run: bool, as_json: bool) -> None:
    named = NOTIFICATION if group is GroupName.NOTIFICATION else ORDER_STATUS
    offsets = EarliestOffsets(kafka_settings(home), named)
    opened = (
        connected_by_engine(home, ROLE, target="any")
        if named == NOTIFICATION
        else connected_by_engine(home, "order_rw")
    )
    with opened as connection:
        found = offsets.look(connection)
        count = 0 if dry_run else offsets.set(connection, found)
    if as_json:
        rows = [{**each.at._asdict(), "stood": each.stood, "first": each.first, "wrong": each.wrong} for each in found]
        typer.echo(json.dumps({"group": offsets.group_id, "partitions": rows}, indent=2))
        return
    for each in found:
        typer.echo(_standing_line(each))
    typer.echo("nothing was set: --dry-run" if dry_run else f"set on {count} partitions" if count else "nothing to set")


def _standing_line(each: Standing) -> str:
    stood = "none" if each.stood is None else str(each.stood)
    return f"{each.at.topic}[{each.at.number}] {stood}: " + (f"{each.wrong} -> {each.first}" if each.wrong else "right")


def _show(found: Repair, *, as_json: bool) -> None:
    if as_json:
        rows = [{**asdict(each), "target": each.target, "removed": each.removed} for each in found.partitions]
        hindrances = [{"what": what, "cure": cure} for what, cure in found.hindrances]
        typer.echo(json.dumps({"group": found.group, "partitions": rows, "hindrances": hindrances}, indent=2))
        return
    headings = ("partition", "committed", "by topics", "by progress", "decided", "belongs at")
    rows_shown = [headings, *(_cells(each) for each in found.partitions)]
    widths = [max(len(row[column]) for row in rows_shown) for column in range(len(headings))]
    typer.echo(f"group {found.group}; each number is the offset to read next")
    for row in rows_shown:
        typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _cells(facts: Facts) -> tuple[str, ...]:
    numbers: Sequence[int | None] = (
        facts.number,
        facts.committed,
        facts.answered,
        facts.noted,
        facts.decided,
        facts.target,
    )
    return tuple("-" if number is None else str(number) for number in numbers)


def _report(reached: int, total: int) -> None:
    sys.stderr.write(f"\rread {reached:,} of {total:,} offsets" + ("\n" if reached >= total else ""))
    sys.stderr.flush()


def _silent(_reached: int, _total: int) -> None:
    """Keep a log file free of progress."""


def _say(text: str, *, as_json: bool) -> None:
    if not as_json:
        typer.echo(text)
