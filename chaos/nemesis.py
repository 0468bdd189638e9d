"""Mixed faults of every kind over a whole pipeline under load, by a schedule that follows from the seed."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from audit.errors import StoreDownError
from audit.rules.judge import Judgement
from chaos.faults import FAULTS, ON_EACH_CHANGE
from chaos.history import Conditions, Result, Run, culprits_of, rules_of
from chaos.mixed_faults import open_battle
from chaos.paths import REQUIRED
from chaos.run.pipeline import VoidRunError
from chaos.run.servers import Ground
from chaos.schedule import Planned
from chaos.schedule import schedule as deal
from chaos.soak import soak

__all__ = ["run", "schedule", "soak"]

FAULTS_MIN = KINDS_MIN = 50
LEAST_ON_EACH_CHANGE = 25
MINUTES = 2.0
"""The shortest run in which every kind falls."""
PER_WINDOW_ON_EACH_CHANGE = 6


def schedule(seed: int, seconds: float, *, nightly: bool = True) -> tuple[Planned, ...]:
    """Return the faults of a run, in order of time; of every kind, or of those that fall on each change."""
    if not nightly:
        return deal(seed, seconds, ON_EACH_CHANGE, per_window=PER_WINDOW_ON_EACH_CHANGE)
    return deal(seed, seconds, tuple(FAULTS), once=[kind for kind, fault in FAULTS.items() if fault.once])


def run(
    ground: Ground,
    *,
    seed: int,
    minutes: float = MINUTES,
    orders: int = 20_000,
    nightly: bool = True,
    report: Callable[[str], None],
    conditions: Conditions,
) -> Run:
    """Open a pipeline, load it, hurt it, heal it, judge it. Void if a fault did not take place or a path not taken.

    `nightly`: with every kind of fault, what operators do among them; otherwise with those that fall on each change.
    """
    seconds = 60 * minutes
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    judgement: Judgement | None = None
    requests: dict[str, int] = {}
    faults: list[dict[str, Any]] = []
    voids: list[str] = []
    complaints: list[str] = []
    paths: dict[str, int] = {}
    try:
        with open_battle(ground, f"nemesis-{seed}", seed=seed) as battle:
            began = time.monotonic()
            try:
                requests = battle.fight(
                    schedule(seed, seconds, nightly=nightly), seconds=seconds, orders=orders, report=report
                )
                judgement, complaints = battle.judge(report=report)
                paths = battle.paths(judgement)
            finally:
                spent = time.monotonic() - began
                faults = sorted(battle.course.faults, key=lambda fault: float(fault["at"]))
                voids += battle.course.voids
        voids += shortcomings(faults, paths, least=KINDS_MIN if nightly else LEAST_ON_EACH_CHANGE)
    except (VoidRunError, StoreDownError) as error:
        spent = time.monotonic() - began
        voids.append(error.message)
    culprits = [*(culprits_of(judgement) if judgement is not None else []), *complaints]
    return Run(
        id=f"nemesis-{seed}",
        tier="nemesis",
        subject="mixed faults",
        seed=seed,
        result=Result.FAILED if culprits else Result.VOID if voids else Result.PASSED,
        why="; ".join((culprits or voids)[:1]),
        settings={"minutes": minutes, "orders": orders, "nightly": nightly},
        started=started,
        seconds=round(spent, 2),
        faults=faults,
        orders={**requests, **(judgement.counts if judgement else {})},
        rules=rules_of(judgement) if judgement else {},
        culprits=[*culprits, *voids],
        paths=paths,
        conditions=conditions,
    )


def shortcomings(faults: Sequence[Mapping[str, Any]], paths: Mapping[str, int], *, least: int = KINDS_MIN) -> list[str]:
    """Return what keeps a run of this tier from proving anything."""
    kinds = Counter(fault["kind"] for fault in faults)
    found = [f"M2: the recovery path '{path}' was never taken" for path in REQUIRED if not paths.get(path)]
    if len(faults) < least or len(kinds) < least:
        found.append(f"{len(faults)} faults of {len(kinds)} kinds: fewer than {least} of {least}")
    return found
