"""`pipeline bench whole`: from POST to notified, with all processes on this machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.reserve import spread
from benchmarks.whole import COLD_RATE, COLD_SECONDS, AtRate, WholeTurn, at_rate, idle, sustained
from deploy.cli.measuring_whole import whole_stack
from deploy.cli.options import JsonOption
from onceloop.errors import ExitCode

RATES = (50.0, 100.0, 200.0, 500.0)


def whole(
    *,
    rounds: Annotated[int, typer.Option(min=1, max=20, help="Turns of pipeline and empty route.")] = 5,
    orders: Annotated[int, typer.Option(min=100, max=100_000, help="Orders of a turn.")] = 4000,
    rates: Annotated[list[float] | None, typer.Option("--rate", help="Orders a second; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Length of each rate.")] = 20.0,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the JSON file goes.", show_default="benchmarks/results")
    ] = results.FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Measure the whole way, from POST to notified.

    It runs on a stack of its own, which is gone afterwards. First the ten seconds after "ready"; then as fast as it
    goes, in turns with an empty Flask route on gunicorn, which warms all up; then each rate in an open loop, times
    counted from when a request was due; then idle. The exit code is 1 if the books are not sound at the end.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with whole_stack(console) as stack:
        cold = at_rate(stack, COLD_RATE, seconds=COLD_SECONDS)
        console.print(f"right after ready, {_line(cold)}")
        turns = sustained(stack, rounds=rounds, orders=orders, report=lambda turn: console.print(_turn(turn)))
        warm = []
        for rate in rates or RATES:
            warm.append(at_rate(stack, rate, seconds=seconds))
            console.print(_line(warm[-1]))
        resting = idle(stack, seconds=seconds)
        console.print(f"idle: {sum(resting.values()):.1f} % of a core")
        judgement = stack.judge()
    found = {
        "settings": {"rounds": rounds, "orders": orders, "seconds": seconds},
        "commit": results.commit(),
        "machine": results.machine(),
        "versions": results.client_versions(),
        "sound": judgement.sound,
        "first_seconds": asdict(cold),
        "at_rate": [asdict(each) for each in warm],
        "sustained": {
            "orders_per_second": asdict(spread(turn.pipeline for turn in turns)),
            "accepted_per_second": asdict(spread(turn.accepted for turn in turns)),
            "empty_route_per_second": asdict(spread(turn.empty for turn in turns)),
            "ratio": asdict(spread(turn.ratio for turn in turns)),
        },
        "idle_per_cent": resting,
    }
    path = results.keep("whole", found, folder=out)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print([cold, *warm], turns, resting, path)
    if not judgement.sound:
        raise typer.Exit(ExitCode.VIOLATION)


def _line(found: AtRate) -> str:
    return (
        f"{found.rate:.0f}/s: 202 after {found.answered.p50} / {found.answered.p99} ms,"
        f" shown after {found.shown.p50} / {found.shown.p99} ms, {found.cpu_ms_total:.2f} ms of CPU an order"
    )


def _turn(turn: WholeTurn) -> str:
    return (
        f"pipeline {turn.pipeline:,.0f} orders/s (accepted {turn.accepted:,.0f}/s), empty route {turn.empty:,.0f}/s:"
        f" {turn.ratio:.2f}"
    )


def _print(rates: Sequence[AtRate], turns: Sequence[WholeTurn], resting: Mapping[str, float], path: Path) -> None:
    console = Console(highlight=False)
    console.print(_latencies(rates))
    console.print(_cpu(rates, resting))
    ratio = spread(turn.ratio for turn in turns)
    speed = spread(turn.pipeline for turn in turns)
    console.print(
        f"sustained: {speed.median:,.0f} orders/s ({speed.least:,.0f} to {speed.most:,.0f}), {ratio.median:.2f} of an"
        f" empty route ({ratio.least:.2f} to {ratio.most:.2f}); idle {sum(resting.values()):.1f} % of a core",
        soft_wrap=True,
    )
    console.print(f"kept in {path}", soft_wrap=True)


def _latencies(rates: Sequence[AtRate]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title="POST to ..., p50 / p99 in ms")
    for heading in ("orders/s", "202", "outcome visible", "GET shows it", "notified", "refused"):
        table.add_column(heading, justify="right")
    for number, each in enumerate(rates):
        latencies = (f"{s.p50} / {s.p99}" for s in (each.answered, each.decided, each.shown, each.notified))
        table.add_row(f"{each.rate:.0f}" + ("" if number else " cold"), *latencies, str(each.refused))
    return table


def _cpu(rates: Sequence[AtRate], resting: Mapping[str, float]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title="CPU: ms an order by rate; idle: % of a core")
    table.add_column("process")
    for each in rates[1:]:
        table.add_column(f"{each.rate:.0f}/s", justify="right")
    table.add_column("idle", justify="right")
    for name, percent in resting.items():
        table.add_row(name, *(f"{each.cpu_ms[name]:.2f}" for each in rates[1:]), f"{percent:.1f}")
    table.add_row("all", *(f"{each.cpu_ms_total:.2f}" for each in rates[1:]), f"{sum(resting.values()):.1f}")
    return table
