"""Guards of a step that decides in PostgreSQL: what must hold before a batch may be decided.

- `starts`: a record that ends every process which touches it is taken singly, then left alone.
- `progress`: the group's offsets and the database confirm each other.
- `topic_id`: the input topic is still the one whose coordinates the database holds.
"""

from collections.abc import Mapping, Sequence

from onceloop.postgres.guards.progress import ProgressGuard
from onceloop.postgres.guards.starts import StartGuard
from onceloop.records import CommitPoint, InputRecord, Partition


class Guards:
    """What a step asks before it decides, in the order in which it has to."""

    def __init__(self, starts: StartGuard, progress: ProgressGuard) -> None:
        self.starts = starts
        self._progress = progress

    def admit(self, batch: Sequence[InputRecord]) -> None:
        """Let a batch be decided.

        Raises Busy until offsets and database confirm each other, and FatalError if they never do; Poison if records
        are to be taken singly, Quarantine if none is to be taken.
        """
        self._progress.give()
        self.starts.count(batch)

    def insist(self) -> None:
        """Raise Busy on a connection whose rows are not proven: asked first in each transaction."""
        self._progress.insist()

    def note(self, committed: Mapping[Partition, CommitPoint]) -> None:
        """Keep offsets that are committed in Kafka."""
        self._progress.note(committed)

    def demand(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Have these offsets, where reading goes on, proven before the next batch."""
        self._progress.demand(stable)
