"""The model tier as a run: explore, and say it in the words of the history."""

from chaos.history import Run
from chaos.model.explore import explore
from chaos.run.findings import Findings, record

INTERLEAVINGS = 5_000
PATHS = ("crashes", "takeovers", "zombies", "inventory_replays", "producer_rebuilds: unsure end", "late requests")


def run(seed: int, interleavings: int) -> Run:
    """Play so many interleavings from a seed on. Picklable: it may run in a process of its own."""

    def act(found: Findings) -> None:
        explored = explore(seed, interleavings)
        if explored.failed is not None:
            found.culprits.append(explored.failed.story())
        if explored.missing:
            found.voids.append(f"paths never taken: {', '.join(explored.missing)}")
        found.orders.update(interleavings=explored.interleavings)
        found.paths.update({path: explored.counts[path] for path in PATHS})

    return record(
        act,
        tier="model",
        subject=f"{interleavings:,} interleavings of the loop",
        seed=seed,
        settings={"interleavings": interleavings},
    )
