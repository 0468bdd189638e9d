"""Say where a group belongs, given what topics and tables prove. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one input partition. Every number is an offset to read next; None: there is nothing to go by.

    `first`, `end`: what the topic holds. `committed`: where the group stands. `event`, `letter`: behind the last record
    that a visible event or dead letter answers. `noted`: inventory.progress. `decided`: behind the last decision.
    """

    number: int
    first: int
    end: int
    committed: int | None = None
    event: int | None = None
    letter: int | None = None
    noted: int | None = None
    decided: int | None = None

    @property
    def answered(self) -> int | None:
        """Return how far the topics show that records are answered."""
        return _highest(self.event, self.letter)

    @property
    def proven(self) -> int | None:
        """Return how far anything shows it. Both are lower bounds: a duplicate is answered by no event of its own."""
        return _highest(self.answered, self.noted)

    @property
    def target(self) -> int:
        """Return where the group belongs: what lies below is answered, and nothing behind it is visible.

        The group's own offset does not count: it may be what is wrong. Records that are read a second time because of
        that are answered by no visible event: they are duplicates, or decided and not yet published.
        """
        return max(self.first, self.proven or 0)

    @property
    def removed(self) -> int:
        """Return how many records retention has removed before they were answered."""
        begun = self.proven if self.proven is not None else self.committed
        return max(0, self.first - begun) if begun is not None else 0


def refusals(topic: str, partitions: Iterable[Facts], *, skip_removed: bool) -> Iterator[tuple[str, str]]:
    """Return what keeps the offsets from being set, each with the way out."""
    for each in partitions:
        name = f"{topic}[{each.number}]"
        if each.event is not None and each.event > (each.decided or 0):
            yield (
                f"{name}: events are visible up to {each.event - 1}, decisions end before {each.decided or 0}",
                "PostgreSQL is older than the topics: bring the decisions back first, by `pipeline rebuild`",
            )
        if each.target > each.end:
            yield (
                f"{name} ends at {each.end}, but is answered up to {each.target - 1}",
                "the topic was recreated or lost records: see docs/runbook.md, the committed offset is gone",
            )
        if each.removed and not skip_removed:
            yield (
                f"{name}: {each.removed} orders before {each.first} left the topic before they were answered",
                "bring them back from a copy, or go on without them: --skip-removed",
            )


def _highest(*offsets: int | None) -> int | None:
    return max((each for each in offsets if each is not None), default=None)
