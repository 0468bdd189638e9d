"""`pipeline verify`: prove the books from topics and tables, or name the culprit."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from chaos.checker.audit import audit
from chaos.checker.invariants import Harm
from chaos.checker.judge import Judgement, Ruling
from chaos.checker.waiting import Waiting
from common.errors import ExitCode
from deploy.cli.checking import checker_settings
from deploy.cli.options import DEFAULT, TYPER_OPTIONS, HomeOption, JsonOption, example

SHOWN_PER_RULE = 3

app = typer.Typer(**TYPER_OPTIONS)


@app.command(
    **example("after a kill, then in a script", "pipeline verify", "pipeline verify --wait 120 --json | jq .harms")
)
def verify(
    home: HomeOption = DEFAULT,
    *,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long accepted orders may take to come through.")
    ] = 30.0,
    inventory_only: Annotated[
        bool, typer.Option("--inventory-only", help="Wait for outcomes alone: nobody notifies or projects here.")
    ] = False,
    not_restocked: Annotated[
        bool, typer.Option("--not-restocked", help="No stock was ever added: also ask whether any refusal was false.")
    ] = False,
    sinks: Annotated[
        bool, typer.Option("--sinks", help="Instead: compare the tables that Kafka Connect writes with the topics.")
    ] = False,
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
    with _progress(quiet=as_json) as report:
        judgement = audit(
            settings,
            wait_seconds=wait,
            followers=not inventory_only,
            restocked=not not_restocked,
            report=report,
        )
    seconds = time.monotonic() - began
    if as_json:
        typer.echo(json.dumps(_as_fields(judgement, seconds), indent=2))
    else:
        show(judgement, seconds, Console(highlight=False))
    if not judgement.sound:
        raise typer.Exit(ExitCode.VIOLATION)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Waiting], None]]:
    """Yield what to call with the state of the wait: one line that changes, or nothing where nobody watches."""
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
    """Tell the first violations of a rule, each with its order's way."""
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
