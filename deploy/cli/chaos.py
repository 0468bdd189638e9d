"""`pipeline chaos`: hurt a pipeline of its own in every way we know, and prove the books after each fault."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import results
from chaos import matrix as crash_matrix
from chaos import mutants as planted
from chaos import nemesis, report, takeover
from chaos.bugs import planted as planted_bugs
from chaos.history import Conditions, Result, Run, append, read
from chaos.model import tier as model
from chaos.points import Kind, jobs, named
from chaos.soak import soak as mixed_for_hours
from deploy.cli.options import TYPER_OPTIONS, example
from deploy.cli.proving import OwnServers, own_servers
from deploy.cli.showing import show_a_kill
from onceloop.errors import ExitCode, UsageError

HISTORY = Path("chaos/history/local")
REPORT = Path("chaos/REPORT.md")

app = typer.Typer(**TYPER_OPTIONS)

SeedOption = Annotated[int, typer.Option(min=0, help="What is ordered, hurt and when follows from it.")]
HistoryOption = Annotated[
    Path,
    typer.Option("--history", metavar="DIR", help="Where the runs are kept: one JSON line each, a file per tier."),
]
MinutesOption = Annotated[
    float, typer.Option(min=nemesis.MINUTES, max=60, help="How long orders come in and faults happen.")
]
OrdersOption = Annotated[int, typer.Option(min=2_000, max=500_000, help="How many orders come in meanwhile.")]


@app.callback(invoke_without_command=True)
def every_change(
    context: typer.Context,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="One kill, for the eyes: 40 s.")] = False,
    seed: SeedOption = 1,
    history: HistoryOption = HISTORY,
) -> None:
    """Inject every fault we know into a pipeline of its own; prove the books after each.

    Without a subcommand: what every change must pass, about eight minutes on two cores. 5,000 interleavings on a model
    of Kafka; 48 kills and 12 zombies at named points, one at a time; mixed faults over 20,000 orders. Servers of its
    own are started, and nothing of them is left. The exit code is 1 if a rule broke, 75 if a run is void.
    """
    if context.invoked_subcommand is not None:
        return
    if quick:
        with own_servers(_progress()) as servers:
            raise typer.Exit(show_a_kill(servers, Console(highlight=False, soft_wrap=True, emoji=False), seed=seed))
    reporter = Reporter(history)
    with _beside() as beside:
        explored = beside.submit(model.run, seed, model.INTERLEAVINGS)
        with _servers(reporter) as servers:
            found = [explored.result()]
            reporter(found[0])
            found += crash_matrix.run(servers, jobs(), seed=seed, report=reporter)
            found.append(takeover.run(servers, seed=seed))
            reporter(found[-1])
            found.append(nemesis.run(servers, seed=seed, nightly=False, report=reporter.say))
            reporter(found[-1])
    reporter.say(report.verdict(found))
    conclude(found)


@app.command(**example("one point", "pipeline chaos matrix --point inventory:db.committed --action kill"))
def matrix(
    *,
    point: Annotated[str, typer.Option(metavar="SERVICE:POINT", help="One point alone.")] = "",
    action: Annotated[Kind | None, typer.Option(help="One kind alone.")] = None,
    seed: SeedOption = 1,
    history: HistoryOption = HISTORY,
) -> None:
    """Kill, or freeze, at every named point; audit after each."""
    wanted = jobs(point=str(named(point)) if point else "", kind=action)
    if not wanted:
        raise UsageError(f"{point} is no point for a {action}", cure="leave --action out")
    with _servers(reporter := Reporter(history)) as servers:
        found = crash_matrix.run(servers, wanted, seed=seed, report=reporter)
        if not point and action is None:
            found.append(takeover.run(servers, seed=seed))
            reporter(found[-1])
    conclude(found)


@app.command("nemesis", **example("the same faults again", "pipeline chaos nemesis --seed 42 --minutes 2"))
def mixed(
    *,
    seed: SeedOption = 1,
    minutes: MinutesOption = nemesis.MINUTES,
    orders: OrdersOption = 20_000,
    history: HistoryOption = HISTORY,
) -> None:
    """Mixed faults, by a schedule that follows from the seed."""
    with _servers(reporter := Reporter(history)) as servers:
        run = nemesis.run(servers, seed=seed, minutes=minutes, orders=orders, report=reporter.say)
        reporter(run)
    conclude([run])


@app.command(**example("one bug", "pipeline chaos mutants --only event-built-anew"))
def mutants(
    *,
    only: Annotated[list[str] | None, typer.Option(metavar="BUG", help="This one alone; may be repeated.")] = None,
    seed: SeedOption = 1,
    history: HistoryOption = HISTORY,
) -> None:
    """Plant known bugs: each is caught by its own rule.

    The unchanged product passes the same runs.
    """
    for name in only or ():
        planted_bugs.named(name)  # before any server starts
    with _servers(reporter := Reporter(history)) as servers:
        found = planted.prove(servers, seed=seed, only=only or (), report=reporter)
    conclude(found)


@app.command(**example("over night", "pipeline chaos soak --hours 8"))
def soak(
    *,
    hours: Annotated[float, typer.Option(min=0.05, max=48, help="How long.")] = 8.0,
    seed: SeedOption = 1,
    history: HistoryOption = HISTORY,
) -> None:
    """Mixed faults for hours; memory must stay flat.

    So must descriptors, and connections to the database.
    """
    with _servers(reporter := Reporter(history)) as servers:
        run = mixed_for_hours(servers, seed=seed, hours=hours, report=reporter.say)
        reporter(run)
    conclude([run])


@app.command(**example("what failed last night", "pipeline chaos replay nemesis-42"))
def replay(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="As the report and the history name it.")],
    *,
    history: HistoryOption = HISTORY,
) -> None:
    """Do a run again: same seed, same schedule."""
    known = {run.id: run for run in (*read(history.parent), *read(history))}
    if run_id not in known:
        raise UsageError(f"no run {run_id} in {history}", cure="pipeline chaos report names them")
    again = known[run_id]
    reporter = Reporter(history)
    if again.tier == "model":
        found = [model.run(again.seed, int(again.settings["interleavings"]))]
        reporter(found[0])
    else:
        with _servers(reporter) as servers:
            found = _again(again, servers, reporter)
    conclude(found)


@app.command("report", **example("into the repository", "pipeline chaos report --history chaos/history"))
def write_report(
    *,
    history: HistoryOption = HISTORY,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where it goes; - for the standard output.")] = REPORT,
) -> None:
    """Write what the kept runs found, as Markdown.

    Fault, what must hold, measured recovery, proof.
    """
    text = report.render(read(history))
    if str(out) == "-":
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"written to {out}")


class Reporter:
    """Prints a line per run as it ends, and keeps the run; of one that did not pass also its logs and evidence."""

    def __init__(self, history: Path) -> None:
        self._console = Console(highlight=False, soft_wrap=True, emoji=False)
        self._history = history
        self._conditions = Conditions(
            commit=results.commit(), cores=os.cpu_count() or 1, versions=dict(results.client_versions())
        )
        self.servers: OwnServers | None = None

    def __call__(self, run: Run) -> None:
        """Report a run that has ended."""
        append(self._history, replace(run, conditions=self._conditions))
        style = {Result.PASSED: "green", Result.FAILED: "bold red", Result.VOID: "yellow"}[run.result]
        self._console.print(f"{run.result:<7}", style=style, end="")
        self._console.print(f"{run.subject:<40}{', '.join(_facts(run))}", markup=False)
        if run.result is not Result.PASSED:
            for line in dict.fromkeys((run.why, *run.culprits)):
                self._console.print(f"       {line}", style=style, markup=False)
            if self.servers is not None:
                kept = self.servers.keep(self._history / "failed" / run.id)
                self._console.print(f"       logs and evidence: {kept}", markup=False)
            self._console.print(f"       again: pipeline chaos replay {run.id}", markup=False)

    def say(self, line: str) -> None:
        """Report something on the way."""
        self._console.print(line, style="dim", markup=False)


def conclude(runs: Sequence[Run]) -> None:
    """Exit with 1 if a run failed, with 75 if one is void."""
    if any(run.result is Result.FAILED for run in runs):
        raise typer.Exit(ExitCode.VIOLATION)
    if any(run.result is Result.VOID for run in runs):
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _facts(run: Run) -> Iterator[str]:
    yield f"{run.seconds:5.1f} s"
    if run.orders.get("orders"):
        yield f"{run.orders['orders']:6,} orders"
    if run.faults and run.tier != "matrix":
        yield f"{len(run.faults)} faults of {len({str(fault['kind']) for fault in run.faults})} kinds"
    if run.txn_open is not None:
        yield f"transaction {'open' if run.txn_open else 'closed'}"
    if run.recovery_seconds is not None:
        yield f"next outcome after {run.recovery_seconds:.2f} s"
    if run.stall_seconds:
        yield f"readers held {run.stall_seconds:.2f} s"


def _again(run: Run, servers: OwnServers, reporter: Reporter) -> list[Run]:
    match run.tier:
        case "matrix" if run.subject == takeover.SUBJECT:
            found = [takeover.run(servers, seed=run.seed)]
        case "matrix":
            point, _, kind = run.subject.rpartition(" ")
            wanted = jobs(point=point, kind=Kind(kind)) if kind in set(Kind) else jobs()
            return crash_matrix.run(servers, wanted, seed=run.seed, report=reporter)
        case "mutants":
            only = [run.subject.rpartition(" ")[0]]
            return planted.prove(servers, seed=run.seed, only=only, report=reporter)
        case "soak":
            hours = float(run.settings["hours"])
            found = [mixed_for_hours(servers, seed=run.seed, hours=hours, report=reporter.say)]
        case _:
            minutes, orders = float(run.settings["minutes"]), int(run.settings["orders"])
            found = [
                nemesis.run(
                    servers,
                    seed=run.seed,
                    minutes=minutes,
                    orders=orders,
                    nightly=bool(run.settings.get("nightly", True)),
                    report=reporter.say,
                )
            ]
    reporter(found[0])
    return found


@contextmanager
def _servers(reporter: Reporter) -> Iterator[OwnServers]:
    with own_servers(_progress()) as servers:
        reporter.servers = servers
        yield servers


@contextmanager
def _beside() -> Iterator[ProcessPoolExecutor]:
    """Yield a process for what needs a core of its own; it has none of our clients and threads."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def _progress() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
