"""`pipeline chaos`: hurt a pipeline of its own in every way we know, and prove the books after each."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import results
from chaos import crash_matrix
from chaos.crash_matrix import Kind
from chaos.history import Conditions, Result, Run, append
from chaos.points import named
from common.errors import ExitCode
from deploy.cli.options import TYPER_OPTIONS, example
from deploy.cli.proving import ProvingGround, proving_ground

HISTORY = Path("chaos/history/local")

app = typer.Typer(help=__doc__, **TYPER_OPTIONS)

SeedOption = Annotated[int, typer.Option(min=0, help="What is ordered, hurt and when follows from it.")]
HistoryOption = Annotated[
    Path, typer.Option("--history", metavar="DIR", help="Where the runs are kept, one JSON line each.")
]


@app.callback(invoke_without_command=True)
def _root() -> None:
    """Be a group."""


@app.command(**example("one point", "pipeline chaos matrix --point inventory:db.committed --action kill"))
def matrix(
    *,
    point: Annotated[str, typer.Option(metavar="SERVICE:POINT", help="One point alone.")] = "",
    action: Annotated[Kind | None, typer.Option(help="One kind alone.")] = None,
    seed: SeedOption = 1,
    history: HistoryOption = HISTORY,
) -> None:
    """Kill at every named point, freeze at some past all time-outs; audit everything after each."""
    if point:
        named(point)
    wanted = crash_matrix.jobs(point=point, kind=action)
    with _told(history) as (ground, tell, conditions):
        conclude(crash_matrix.run(ground, wanted, seed=seed, report=tell, conditions=conditions))


class Teller:
    """Prints a line per run as it ends, and keeps the run."""

    def __init__(self, console: Console, history: Path) -> None:
        self._console, self._history = console, history

    def __call__(self, run: Run) -> None:
        """Tell of a run that has ended."""
        append(self._history, run)
        style = {Result.PASSED: "green", Result.FAILED: "bold red", Result.VOID: "yellow"}[run.result]
        facts = [f"{run.seconds:5.1f} s", f"{run.orders.get('orders', 0):6,} orders"]
        if run.txn_open is not None:
            facts.append(f"transaction {'open' if run.txn_open else 'closed'}")
        if run.recovery_seconds is not None:
            facts.append(f"next outcome after {run.recovery_seconds:.2f} s")
        if run.stall_seconds:
            facts.append(f"readers held {run.stall_seconds:.2f} s")
        self._console.print(f"{run.result:<7}", style=style, end="")
        self._console.print(f"{run.subject:<38}{', '.join(facts)}", markup=False)
        for line in (run.why, *run.culprits[1:]) if run.result is not Result.PASSED else ():
            self._console.print(f"       {line}", style=style, markup=False, soft_wrap=True)


@contextmanager
def _told(history: Path) -> Iterator[tuple[ProvingGround, Teller, Conditions]]:
    console = Console(highlight=False, soft_wrap=True)
    conditions = Conditions(
        commit=results.commit(), cores=os.cpu_count() or 1, versions=dict(results.client_versions())
    )
    with proving_ground(Console(stderr=True, highlight=False, soft_wrap=True)) as ground:
        yield ground, Teller(console, history), conditions


def conclude(runs: Sequence[Run]) -> None:
    """Exit with 1 if a run failed, with 75 if one is void."""
    if any(run.result is Result.FAILED for run in runs):
        raise typer.Exit(ExitCode.VIOLATION)
    if any(run.result is Result.VOID for run in runs):
        raise typer.Exit(ExitCode.UNAVAILABLE)
