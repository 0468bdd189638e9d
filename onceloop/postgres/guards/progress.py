"""Believe neither the group's offsets nor the database before the one confirms the other.

What is published is noted in the table `progress`. Offsets that lie before the note: a broker that loads its groups
answers so, or they were set back by hand; records would be worked on twice. Offsets that lie beyond it: the note of the
last batches was lost, and then every record between is decided. Or one is not: the offsets were set ahead by hand, and
the records between would be lost; or PostgreSQL was restored from an older backup, and what was published since would
be decided a second time.

Restoring a database ends its sessions. So a new connection is proven as a whole: on every partition, also on those of
other workers, whose decisions may depend on the same rows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import psycopg

from onceloop.errors import Busy
from onceloop.kafka.input_log import InputLog
from onceloop.kafka.input_logs import InputLogs
from onceloop.offset_proof import Doubt, old_offsets
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.guards.tables import GuardTables
from onceloop.postgres.retry import rerun
from onceloop.records import CommitPoint, InputRecord, Partition

Undecided = Callable[[psycopg.Connection, Sequence[InputRecord]], list[InputRecord]]
"""Records -> those of them that the service would decide, and for which the database holds no decision."""


@dataclass(frozen=True, slots=True)
class Cures:
    """What a person is to do, as imperative sentences: about offsets set back, and about offsets set ahead."""

    behind: str
    ahead: str


class ProgressGuard:
    """What is to be proven before the next record is decided."""

    def __init__(
        self,
        connection: HotConnection,
        tables: GuardTables,
        *,
        input_log: InputLog | InputLogs,
        undecided: Undecided,
        cures: Cures,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._input_log = input_log
        self._undecided = undecided
        self._sought: Mapping[Partition, CommitPoint] = {}
        self._decided_to: dict[Partition, int] = {}
        self._compared_on = self._proven_on = 0
        self._old = old_offsets(done="answered", cure=cures.behind)
        self._ahead = Doubt(
            passing="committed offsets beyond what is decided",
            staying="the group's offsets lie beyond what is decided",
            cure=cures.ahead,
        )

    def demand(self, sought: Mapping[Partition, CommitPoint]) -> None:
        """Have these offsets, where reading goes on, proven before the next record is decided."""
        self._sought = sought

    def give(self) -> None:
        """Prove what is to be proven. Raises Busy while it is not, and FatalError if it stays so for a minute."""
        known = self._connection.opened == self._proven_on
        if known and not self._sought:
            return
        points = {at: point.offset for at, point in self._sought.items()}
        if not known:
            points = {**self._input_log.committed(), **points}
        opened, noted = rerun(partial(self._noted, points), self._connection)
        if opened != self._compared_on:
            self._decided_to.clear()
            self._compared_on = opened
        self._old.weigh({at: f"at {points[at]} of {noted[at]}" for at in self._sought if points[at] < noted.get(at, 0)})
        self._prove_decided(points, noted)
        if self._connection.opened != opened:
            raise Busy("the connection to PostgreSQL was lost while its rows were proven")
        self._proven_on, self._sought = opened, {}

    def insist(self) -> None:
        """Raise Busy if the connection is not the one that was proven: then nothing may be decided on it."""
        if self._connection.opened != self._proven_on:
            raise Busy("a new connection to PostgreSQL: its rows are to be proven first")

    def note(self, committed: Mapping[Partition, CommitPoint]) -> None:
        """Keep offsets that are committed in Kafka; one that cannot be kept is covered by the next."""
        try:
            self._tables.note(self._connection.get(), committed)
        except psycopg.Error as error:
            self._connection.runtime.observer.log("info", "progress.not_noted", cause=str(error))
            self._connection.drop()

    def _noted(
        self, points: Mapping[Partition, int], connection: psycopg.Connection
    ) -> tuple[int, dict[Partition, int]]:
        return self._connection.opened, self._tables.noted(connection, points)

    def _prove_decided(self, points: Mapping[Partition, int], noted: Mapping[Partition, int]) -> None:
        """Look up the records between what is noted and what is committed; if all are decided, note the latter."""
        begins = {at: max(noted.get(at, 0), self._decided_to.get(at, 0)) for at in points}
        ahead = {at: (begins[at], offset) for at, offset in points.items() if offset > begins[at]}
        if not ahead:
            self._ahead.weigh({})
            return
        reading = self._input_log.read(ahead)
        self._ahead.weigh(
            {
                at: f"stands at {points[at]}, but {len(offsets)} records from {offsets[0]} on have no decision"
                for at, offsets in self._missing(reading.records).items()
            }
        )
        self._decided_to.update(reading.reached)
        if left := sum(end - reading.reached[at] for at, (_, end) in ahead.items()):
            raise Busy(f"committed offsets are compared with the decisions: {left} to go")
        for at, (begin, _) in ahead.items():
            if (first := reading.firsts[at]) > begin:
                self._connection.runtime.observer.log(
                    "warning", "progress.unproven", partition=str(at), noted=begin, first=first
                )
        proven = {at: CommitPoint(end) for at, (_, end) in ahead.items()}
        rerun(lambda connection: self._tables.note(connection, proven), self._connection)

    def _missing(self, records: Sequence[InputRecord]) -> dict[Partition, list[int]]:
        """Return the offsets of records that have neither a decision nor a dead letter."""
        if not records:
            return {}
        suspects = rerun(lambda connection: self._undecided(connection, records), self._connection)
        letters = self._input_log.dead_letters() if suspects else set()
        missing: dict[Partition, list[int]] = {}
        for record in suspects:
            if (record.partition, record.offset) not in letters:
                missing.setdefault(record.partition, []).append(record.offset)
        return missing
