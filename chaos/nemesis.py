"""Mixed faults of every kind over a whole pipeline under load, by a schedule that follows from the seed."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chaos.faults import FAULTS, ON_EACH_CHANGE
from chaos.history import Run
from chaos.mixed_faults import open_mixed_faults
from chaos.paths import REQUIRED
from chaos.run.findings import Findings, record
from chaos.run.pipeline import Servers
from chaos.schedule import Planned
from chaos.schedule import schedule as deal

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
    servers: Servers,
    *,
    seed: int,
    minutes: float = MINUTES,
    orders: int = 20_000,
    nightly: bool = True,
    report: Callable[[str], None],
) -> Run:
    """Open a pipeline, load it, hurt it, heal it, judge it. Void if a fault did not take place or a path not taken.

    `nightly`: with every kind of fault, what operators do among them; otherwise with those that fall on each change.
    """
    seconds = 60 * minutes

    def act(found: Findings) -> None:
        with open_mixed_faults(servers, f"nemesis-{seed}", found, seed=seed) as mixed:
            found.began = time.monotonic()
            mixed.run(schedule(seed, seconds, nightly=nightly), seconds=seconds, orders=orders, report=report)
            mixed.judge(report=report)
        found.voids += shortcomings(found.faults, found.paths, least=KINDS_MIN if nightly else LEAST_ON_EACH_CHANGE)

    return record(
        act,
        tier="nemesis",
        subject="mixed faults",
        seed=seed,
        settings={"minutes": minutes, "orders": orders, "nightly": nightly},
    )


def shortcomings(faults: Sequence[Mapping[str, Any]], paths: Mapping[str, int], *, least: int = KINDS_MIN) -> list[str]:
    """Return what keeps a run of this tier from proving anything."""
    kinds = Counter(fault["kind"] for fault in faults)
    found = [f"M2: the recovery path '{path}' was never taken" for path in REQUIRED if not paths.get(path)]
    if len(faults) < least or len(kinds) < least:
        found.append(f"{len(faults)} faults of {len(kinds)} kinds: fewer than {least} of {least}")
    return found
