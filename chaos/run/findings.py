"""One run, from its beginning to its line in the history: what it finds is collected on the way, and weighed once."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from audit.errors import StoreDownError
from audit.rules.judge import Judgement
from chaos.history import Result, Run, culprits_of, rules_of
from chaos.wire.relay import NotMetError
from onceloop.errors import ExitCode, ReportedError


class VoidRunError(ReportedError):
    """The run proves nothing: its fault did not fire, or the pipeline did not stand. Neither passed nor failed."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(slots=True)
class Findings:
    """What a run has seen so far; see `Run` for what the fields mean."""

    began: float = field(default_factory=time.monotonic)
    """Moments of faults are counted from here; by the monotonic clock."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    """Processes whose death the run wanted."""
    txn_open: bool | None = None
    orders: Counter[str] = field(default_factory=Counter)
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)
    culprits: list[str] = field(default_factory=list)
    voids: list[str] = field(default_factory=list)
    """Why the run proves nothing."""
    recovery_seconds: float | None = None
    stall_seconds: float | None = None
    paths: Counter[str] = field(default_factory=Counter)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def fault(self, kind: str, *, at: float | None = None, **seen: Any) -> None:
        """Note what was done, and at which moment of the monotonic clock; without one, now."""
        moment = time.monotonic() if at is None else at
        self.faults.append({"at": round(moment - self.began, 2), "kind": kind, **seen})

    def judged(self, judgement: Judgement) -> None:
        """Add what an audit counted and what it found broken; a broken rule comes before all else that was seen."""
        self.orders.update(judgement.counts)
        self.rules = rules_of(judgement)
        self.culprits[:0] = culprits_of(judgement)

    def add(self, other: "Findings") -> None:
        """Add what was found of another pipeline."""
        self.faults += other.faults
        self.orders.update(other.orders)
        self.paths.update(other.paths)
        for rule, (judged, broken) in other.rules.items():
            former = self.rules.get(rule, (0, 0))
            self.rules[rule] = (former[0] + judged, former[1] + broken)
        self.culprits += other.culprits
        self.voids += other.voids
        self.curves |= other.curves


def first_culprit(found: Findings) -> str:
    """Return what is wrong with a run that may break no rule."""
    return "; ".join(found.culprits[:1])


def record(
    act: Callable[[Findings], None],
    *,
    tier: str,
    subject: str,
    seed: int,
    name: str = "",
    settings: Mapping[str, Any] | None = None,
    wrong: Callable[[Findings], str] = first_culprit,
) -> Run:
    """Do a run, and return what the history keeps of it; `act` does it and notes what it finds.

    It failed if `wrong` says why, else it is void if anything is among the `voids`, or if it ended by a VoidRunError, a
    NotMetError or a StoreDownError. `name` is what its id has behind tier and seed.
    """
    found, began, started = Findings(), time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    try:
        act(found)
    except (VoidRunError, NotMetError, StoreDownError) as error:
        found.voids.insert(0, error.message)
    why = wrong(found)
    return Run(
        id="-".join(filter(None, (tier, str(seed), name.replace(" ", "-").replace(":", ".")))),
        tier=tier,
        subject=subject,
        seed=seed,
        result=Result.FAILED if why else Result.VOID if found.voids else Result.PASSED,
        why=why or "; ".join(found.voids[:1]),
        settings=settings or {},
        started=started,
        seconds=round(time.monotonic() - began, 2),
        txn_open=found.txn_open,
        faults=sorted(found.faults, key=lambda fault: float(fault["at"])),
        orders=dict(found.orders),
        rules=found.rules,
        culprits=[*found.culprits, *found.voids],
        recovery_seconds=found.recovery_seconds,
        stall_seconds=found.stall_seconds,
        paths=dict(found.paths),
        curves=found.curves,
    )
