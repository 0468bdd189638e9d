"""What a plan will have made visible, to be counted once its transaction is known to be committed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from common import metrics
from common.topics import ORDERS_CREATED
from onceloop.records import CommitPoint, Partition


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What the plan that was made last will have made visible, once its transaction is committed."""

    offsets: Mapping[Partition, CommitPoint] = field(default_factory=dict)
    reasons: Mapping[str | None, int] = field(default_factory=dict)
    letters: int = 0

    def is_covered_by(self, stable: Mapping[Partition, CommitPoint]) -> bool:
        """Return True if the group stands where the plan would have put it, as far as its partitions are still ours."""
        known = self.offsets.keys() & stable.keys()
        return bool(known) and all(stable[at].offset >= self.offsets[at].offset for at in known)

    def count(self) -> None:
        """Count orders by outcome and reason, and dead letters."""
        for reason, orders in self.reasons.items():
            verdict, label = ("reserved", metrics.NO_REASON) if reason is None else ("failed", reason)
            metrics.INVENTORY_DECISIONS.labels(verdict, label).inc(orders)
        metrics.DEAD_LETTERS.labels(ORDERS_CREATED.name).inc(self.letters)
