"""Start a service with failpoints armed: `python -m chaos.run.launch <module> [arguments]`.

The service's own main runs, unchanged and unaware: `onceloop.failpoints.point` is rebound before anything of it is
imported. CHAOS_PLAN names the control file, CHAOS_EVIDENCE the evidence file (see `chaos.run.plan`). Whether a Kafka
transaction is open is known from the client class, which is wrapped here and not in the product. CHAOS_MUTANT, if it is
set, names a bug to plant first (see `chaos.bugs.planted`).
"""

import os
import runpy
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import confluent_kafka
import uuid_utils

from chaos.bugs.planted import named
from chaos.bugs.planting import plant
from chaos.run.plan import Action, Arm, Fired, claim, read_evidence, read_plan
from onceloop import failpoints
from onceloop.errors import ExitCode, ReportedError

FLUSH_SECONDS = 5.0
NANOSECONDS = 1_000_000_000
_UUID7 = uuid_utils.uuid7


class InjectedError(Exception):
    """What an armed `raise` raises: an error that no handler was written for."""


class Transactions:
    """Whether this process has begun a Kafka transaction whose end it has not seen.

    One flag for the process: a producer that is dropped leaves its transaction open on the broker until the next one
    initialises.
    """

    def __init__(self) -> None:
        self.open = False
        self._producer: weakref.ref[confluent_kafka.Producer] | None = None  # never the reason that a producer lives on

    def flush(self) -> None:
        """Have all that was produced reach the broker."""
        producer = self._producer() if self._producer is not None else None
        if producer is not None:
            producer.flush(FLUSH_SECONDS)

    def watch(self) -> None:
        """Replace the client's producer class by one that keeps the flag."""
        transactions = self

        class Producer(confluent_kafka.Producer):
            """The client's producer, which reports when its transaction begins and ends."""

            def init_transactions(self, *args: Any, **kwargs: Any) -> None:
                super().init_transactions(*args, **kwargs)
                transactions.open = False

            def begin_transaction(self, *args: Any, **kwargs: Any) -> None:
                super().begin_transaction(*args, **kwargs)
                transactions.open = True
                transactions._producer = weakref.ref(self)

            def commit_transaction(self, *args: Any, **kwargs: Any) -> None:
                super().commit_transaction(*args, **kwargs)
                transactions.open = False

        confluent_kafka.Producer = Producer  # type: ignore[misc]


class Hook:
    """What stands in for `failpoints.point`: count the hits, and act where the plan says so."""

    def __init__(self, *, control: Path, evidence: Path, transactions: Transactions) -> None:
        self._control = control
        self._evidence = evidence
        self._transactions = transactions
        self._lock = threading.Lock()
        self._version: tuple[int, int] | None = None
        self._arms: tuple[Arm, ...] = ()
        self._hits: dict[str, int] = {}
        self._load_if_changed()

    def __call__(self, name: str) -> None:
        """Pass the point `name`."""
        with self._lock:
            self._load_if_changed()
            hit = self._hits[name] = self._hits.get(name, 0) + 1
            due = [arm for arm in self._arms if arm.point == name and arm.hit == hit]
        for arm in due:
            if arm.flush:
                self._transactions.flush()
            if claim(self._evidence, self._line(arm)):
                act(arm)

    def _load_if_changed(self) -> None:
        try:
            found = self._control.stat()
        except FileNotFoundError:
            self._version, self._arms = None, ()
            return
        version = (found.st_mtime_ns, found.st_ino)
        if version != self._version:
            spent = {fired.arm for fired in read_evidence(self._evidence)}
            self._arms = tuple(arm for arm in read_plan(self._control) if arm.id not in spent)
            self._version, self._hits = version, {}

    def _line(self, arm: Arm) -> Fired:
        return Fired(
            arm=arm.id,
            point=arm.point,
            hit=arm.hit,
            action=arm.action,
            pid=os.getpid(),
            txn_open=self._transactions.open,
            monotonic=time.monotonic(),
        )


def act(arm: Arm) -> None:
    """Do what the arm says, to this process."""
    match arm.action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.RAISE:
            raise InjectedError(arm.point)
        case Action.SLEEP:
            time.sleep(arm.seconds)
        case Action.EXIT:
            sys.exit(ExitCode.SOFTWARE)
        case Action.TERM:
            os.kill(os.getpid(), signal.SIGTERM)
        case Action.JUMP:
            jump(arm.seconds)


def jump(seconds: float) -> None:
    """Have the wall clock of this process run so far ahead, or behind, of where it stood; ids carry the same time."""
    clock, ahead = time.time_ns, round(seconds * NANOSECONDS)
    time.time_ns = lambda: clock() + ahead
    time.time = lambda: time.time_ns() / NANOSECONDS
    uuid_utils.uuid7 = lambda: _UUID7(nanoseconds=time.time_ns())  # type: ignore[assignment,misc]  # the product says no time


def main() -> None:
    """Arm, then be the service."""
    if len(sys.argv) < 2 or not {"CHAOS_PLAN", "CHAOS_EVIDENCE"} <= os.environ.keys():  # noqa: PLR2004 - a module name
        print("usage: CHAOS_PLAN=plan.json CHAOS_EVIDENCE=fired.jsonl python -m chaos.run.launch <module> [arguments]")
        sys.exit(ExitCode.USAGE)
    transactions = Transactions()
    try:
        failpoints.point = Hook(
            control=Path(os.environ["CHAOS_PLAN"]),
            evidence=Path(os.environ["CHAOS_EVIDENCE"]),
            transactions=transactions,
        )
    except ValueError as error:
        print(f"CHAOS_PLAN: {error}", file=sys.stderr)
        sys.exit(ExitCode.CONFIG)
    transactions.watch()
    try:
        if bug := os.environ.get("CHAOS_MUTANT"):
            plant(named(bug))
    except ReportedError as error:
        print(f"CHAOS_MUTANT: {error.message}; {error.cure}", file=sys.stderr)
        sys.exit(error.exit_code)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
