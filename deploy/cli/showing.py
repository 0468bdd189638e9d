"""One kill, for the eyes: the books before, SIGKILL inside an open Kafka transaction, the books after."""

import time

from rich.console import Console

from chaos.history import Result
from chaos.matrix import open_series
from chaos.points import Job, Kind, named
from deploy.cli.proving import OwnServers
from deploy.cli.verify import show
from onceloop.errors import ExitCode

POINT = "inventory:flushed"


def show_a_kill(servers: OwnServers, console: Console, *, seed: int) -> int:
    """Show it; return the exit code."""
    with open_series(servers, "ample-quick", seed=seed) as series:
        console.print("A pipeline of its own runs; 200 orders come in.", style="bold")
        series.load()
        began = time.monotonic()
        before = series.audit()
        show(before, time.monotonic() - began, console)

        console.print(f"\nNow the inventory worker dies by SIGKILL at {POINT}:", style="bold")
        console.print("the stock is taken, the events are on the broker, the Kafka transaction is open.")
        run = series.run(Job(named(POINT), Kind.KILL))
        for fault in run.faults:
            console.print(f"  killed: process {fault['pid']} at {fault['point']}, transaction open: {run.txn_open}")
        if run.recovery_seconds is not None:
            console.print(f"  the next process of its slot had its first outcome {run.recovery_seconds:.2f} s later")
        if run.stall_seconds:
            console.print(f"  readers were held up for {run.stall_seconds:.2f} s, and saw nothing of what it left\n")
        began = time.monotonic()
        after = series.audit()
        show(after, time.monotonic() - began, console)
        console.print(f"seed {seed}", style="dim")
        sound = before.sound and after.sound and run.result is Result.PASSED
        return int(ExitCode.OK if sound else ExitCode.VIOLATION)
