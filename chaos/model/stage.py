"""What the product takes from the world around it, as the model has it; all of it is handed in.

The clock, chance and the clients stand in the `Runtime`, whose observer counts which recovery paths ran; the SQL stands
in `ModelDecisions` and `ModelGuardTables`. Failpoints alone are rebound, as a launcher rebinds them: each is a step.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from chaos.model.scheduler import Scheduler
from inventory_service.io.decision_store import Snapshot
from onceloop import failpoints
from onceloop.records import CommitPoint, Partition
from onceloop.runtime import Runtime
from onceloop.telemetry import Metric, Silent

FIRST_EVENT_ID = 0x0000000000007000_9000000000000000


def runtime(
    scheduler: Scheduler,
    tally: Counter[str],
    *,
    open_consumer: Callable[..., Any],
    open_producer: Callable[..., Any],
) -> Runtime:
    """Return what one interleaving hands to the product."""
    event_ids = count(FIRST_EVENT_ID + 1)
    return Runtime(
        observer=Tallying(tally),
        clock=SimpleNamespace(
            monotonic=lambda: scheduler.now,
            perf_counter=lambda: scheduler.now,
            time_ns=lambda: int(scheduler.now * 1_000) * 1_000_000,
            sleep=lambda seconds: scheduler.wait("sleeping", seconds),
        ),
        jitter=lambda least, _most: least,
        new_id=lambda: str(UUID(int=next(event_ids))),
        consumer=open_consumer,
        producer=open_producer,
        start_thread=lambda work, _name: work(),
        caller=CallsItself,  # type: ignore[arg-type]  # stands for it
    )


@contextmanager
def points_are_steps(scheduler: Scheduler) -> Iterator[None]:
    """Let every failpoint of the product be a step of the scheduler until the block ends."""
    former = failpoints.point
    failpoints.point = lambda name: scheduler.step(name.partition(":")[2])
    try:
        yield
    finally:
        failpoints.point = former


class Tallying(Silent):
    """Counts every counter under its name and labels."""

    def __init__(self, tally: Counter[str]) -> None:
        self._tally = tally

    def count(self, counter: Metric, /, *labels: str, by: float = 1) -> None:
        """Count; the name goes without what all names have."""
        name = counter.name.removeprefix("kafka_").removesuffix("_total")
        self._tally[f"{name}: {', '.join(labels)}" if labels else name] += int(by)


class CallsItself:
    """Stands for the thread that makes a producer's calls: the scheduler runs one thread per worker."""

    def call(self, _seconds: float, work: Callable[[], Any]) -> None:
        """Make the call here."""
        work()

    def close(self) -> None:
        """Do nothing: there is no thread."""


class ModelDecisions:
    """Stands for `decision_store`, on a model's connection."""

    def read(self, connection: Any, **asked: Collection[str]) -> Snapshot:
        """Return stock, decisions and what customers hold."""
        found: Snapshot = connection.read(**asked)
        return found

    def decided(self, connection: Any, order_ids: Collection[str]) -> set[str]:
        """Return those of these orders that have a decision."""
        found: set[str] = connection.decided(order_ids)
        return found

    @contextmanager
    def recording(self, connection: Any, **rows: Any) -> Iterator[None]:
        """Record when the block has ended."""
        yield
        connection.record(**rows)


class ModelGuardTables:
    """Stands for `GuardTables`, on a model's connection."""

    def count_start(self, connection: Any, partition: Partition, offset: int) -> int:
        """Return how many processes have begun there."""
        return int(connection.count_start(partition, offset))

    def take_start_back(self, connection: Any, partition: Partition) -> None:
        """Count one less."""
        connection.take_start_back(partition)

    def note(self, connection: Any, committed: Mapping[Partition, CommitPoint]) -> None:
        """Keep committed offsets."""
        connection.note(committed)

    def noted(self, connection: Any, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Return what is kept of these."""
        return dict(connection.noted(partitions))
