"""The model tier as a run: explore, and say it in the words of the history."""

import time
from datetime import UTC, datetime

from chaos.history import Conditions, Result, Run
from chaos.model.explore import explore

INTERLEAVINGS = 5_000
PATHS = ("crashes", "takeovers", "zombies", "inventory_replays", "producer_rebuilds: unsure end", "late requests")


def run(seed: int, interleavings: int, conditions: Conditions) -> Run:
    """Play so many interleavings from a seed on. Picklable: it may run in a process of its own."""
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    found = explore(seed, interleavings)
    story = found.failed.story() if found.failed is not None else ""
    result = Result.FAILED if story else Result.VOID if found.missing else Result.PASSED
    return Run(
        id=f"model-{seed}",
        tier="model",
        subject=f"{interleavings:,} interleavings of the loop",
        seed=seed,
        result=result,
        why=story or (f"paths never taken: {', '.join(found.missing)}" if found.missing else ""),
        settings={"interleavings": interleavings},
        started=started,
        seconds=round(time.monotonic() - began, 2),
        orders={"interleavings": found.interleavings},
        paths={path: found.counts[path] for path in PATHS},
        conditions=conditions,
    )
