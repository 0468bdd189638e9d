"""`pipeline verify`: prove the books from topics and tables, or name the culprit."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.rules.invariants import Harm
from audit.rules.judge import Judgement, Ruling
from audit.since import Since, audit_since
from audit.waiting import Waiting
from audit.whole import audit
from deploy.cli.checking import checker_settings, memory_path
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example
from onceloop.errors import ExitCode

SHOWN_PER_RULE = 3

app = typer.Typer(**TYPER_OPTIONS)


class From(StrEnum):
    """From where on an incremental verification judges."""

    LAST = "last"
    START = "start"


@app.command(
    **example(
        "after a kill; in a script; what is new since then; with a new memory",
        "pipeline verify",
        "pipeline verify --wait 120 --json | jq .harms",
        "pipeline verify --since last",
        "pipeline verify --since start",
    )
)
def verify(
    home: HomeOption = DEFAULT,
    *,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long accepted orders may take to come through.")
    ] = 30.0,
    inventory_only: Annotated[
        bool,
        typer.Option("--inventory-only", help="Wait for outcomes alone: no notification or projection runs here."),
    ] = False,
    not_restocked: Annotated[
        bool, typer.Option("--not-restocked", help="No stock was ever added: also ask whether any refusal was false.")
    ] = False,
    sinks: Annotated[
        bool, typer.Option("--sinks", help="Instead: compare the tables that Kafka Connect writes with the topics.")
    ] = False,
    since: Annotated[
        From | None,
        typer.Option(
            help="Read only what is new, and judge as strictly. last: go on from the memory of the last such run, kept"
            " in the stack's folder (the first one reads everything); start: read everything, and replace the memory."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read all topics (read_committed) and tables, and judge: nothing lost, nothing doubled, nothing oversold.

    First waits until each order that is accepted now has its outcome, its status and its notification; orders may keep
    coming meanwhile. The exit code is 0 if the books are sound, 1 if a rule is broken (its culprits are named with
    their way through the pipeline), 75 if a store does not answer.
    """
    settings = checker_settings(home)
    if sinks:
        from deploy.cli.verifying_sinks import verify_sinks

        verify_sinks(settings, wait_seconds=wait, as_json=as_json)
        return
    began = time.monotonic()
    options: dict[str, Any] = {
        "wait_seconds": wait,
        "followers": not inventory_only,
        "restocked": not not_restocked,
    }
    looked: Since | None = None
    with _progress(quiet=as_json) as report:
        if since is None:
            judgement = audit(settings, **options, report=report)
        else:
            memory, from_start = memory_path(home, settings), since is From.START
            looked = audit_since(settings, memory, from_start=from_start, **options, report=report)
            judgement = looked.judgement
    _report(judgement, looked, seconds=time.monotonic() - began, as_json=as_json)
    if not judgement.sound:
        raise typer.Exit(ExitCode.VIOLATION)


def _report(judgement: Judgement, looked: Since | None, *, seconds: float, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**_as_fields(judgement, seconds), **_looked_at(looked)}, indent=2))
        return
    if looked is not None:
        typer.echo(_said(looked))
    show(judgement, seconds, Console(highlight=False))


def _said(looked: Since) -> str:
    """Return in words what an incremental verification looked at."""
    if not looked.before:
        return f"everything was read ({_count(looked.orders, 'order')}), and is remembered"
    return (
        f"since {looked.before}: {_count(looked.orders, 'order')} with news, {looked.again:,} judged;"
        " of all others neither records nor rows have changed since they were judged"
    )


def _looked_at(looked: Since | None) -> dict[str, Any]:
    return {"since": {"before": looked.before, "news": looked.orders, "judged": looked.again}} if looked else {}


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Waiting], None]]:
    """Yield what to call with the state of the wait: one line that changes, or nothing without a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading topics and tables") as line:
        yield lambda waiting: line.update(
            f"{waiting.orders:,} orders, {waiting.outcomes:,} with an outcome, {waiting.statuses:,} with a status, "
            f"{waiting.notified:,} notified"
        )


def show(judgement: Judgement, seconds: float, console: Console) -> None:
    """Print each rule, the culprits, and the result in one line. `seconds`: what it took."""
    console.print(_table(judgement))
    for ruling in judgement.rulings:
        _print_culprits(console, ruling, judgement)
    counts = judgement.counts
    harms = ", ".join(f"{judgement.harms[harm]:,} {harm.value}" for harm in (Harm.LOST, Harm.DOUBLED, Harm.OVERSOLD))
    minutes = f"{_count(counts['minutes'], 'minute')}, " if counts["minutes"] else ""
    wrong = f", {judgement.harms[Harm.WRONG]:,} otherwise wrong" if judgement.harms[Harm.WRONG] else ""
    console.print(
        f"{harms}{wrong}: {_count(counts['orders'], 'order')}, {counts['reserved']:,} reserved, "
        f"{counts['failed']:,} failed, {counts['notified']:,} notified, {minutes}"
        f"{_count(counts['dead_letters'], 'dead letter')}, {_count(counts['replays'], 'replay')} ({seconds:.1f} s)",
        style="bold green" if judgement.sound else "bold red",
        soft_wrap=True,
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _table(judgement: Judgement) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("rule")
    table.add_column("judged", justify="right")
    table.add_column("broken", justify="right")
    for ruling in judgement.rulings:
        style = "red" if ruling.broken else None
        table.add_row(ruling.invariant, ruling.rule, f"{ruling.judged:,}", f"{ruling.broken:,}", style=style)
    return table


def _print_culprits(console: Console, ruling: Ruling, judgement: Judgement) -> None:
    """Print the first violations of a rule, each with its order's way."""
    for violation in ruling.examples[:SHOWN_PER_RULE]:
        who = f"order {violation.order_id}: " if violation.order_id else ""
        console.print(f"\n{ruling.invariant} {who}{violation.what}", style="red", soft_wrap=True, markup=False)
        for line in judgement.paths.get(violation.order_id, ()):
            console.print(f"    {line}", soft_wrap=True, markup=False)
    if more := ruling.broken - len(ruling.examples[:SHOWN_PER_RULE]):
        console.print(f"\n{ruling.invariant} and {more:,} more; --json names up to {len(ruling.examples)}", style="red")


def _as_fields(judgement: Judgement, seconds: float) -> dict[str, Any]:
    return {
        "sound": judgement.sound,
        "seconds": round(seconds, 3),
        "harms": {harm.value: count for harm, count in judgement.harms.items()},
        "counts": dict(judgement.counts),
        "rules": [
            {
                "id": ruling.invariant,
                "rule": ruling.rule,
                "judged": ruling.judged,
                "broken": ruling.broken,
                "examples": [
                    {**asdict(violation), "harm": violation.harm.value, "path": judgement.paths.get(violation.order_id)}
                    for violation in ruling.examples
                ],
            }
            for ruling in judgement.rulings
        ],
    }
