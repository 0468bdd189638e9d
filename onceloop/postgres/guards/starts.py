"""Count the starts of processes at one offset, and stop at a record that ends every process which touches it.

Such a record would stop its partition and burn the machine: after three starts at one offset records are taken singly,
after six the partition is left alone and a person is called. No dead letter is written for it: a wrong one loses a
record.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import psycopg

from onceloop.errors import Poison, ReportedError
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.guards.tables import GuardTables
from onceloop.postgres.retry import rerun
from onceloop.records import InputRecord, Partition, Quarantine

STARTS_TO_NARROW = 3
STARTS_TO_QUARANTINE = 6


class StartGuard:
    """Of one process. `begun`: the partitions at which it is counted."""

    def __init__(self, connection: HotConnection, tables: GuardTables) -> None:
        self._connection = connection
        self._tables = tables
        self.begun: set[Partition] = set()

    def count(self, batch: Sequence[InputRecord]) -> None:
        """Count this process at the first offset that it takes from each partition.

        Raises Poison if records are to be taken singly there, Quarantine if none is to be taken, Busy.
        """
        for record in batch:
            if record.partition in self.begun:
                continue
            counting = partial(self._tables.count_start, partition=record.partition, offset=record.offset)
            starts = rerun(counting, self._connection)
            self.begun.add(record.partition)
            if starts >= STARTS_TO_QUARANTINE:
                raise Quarantine(frozenset({record.partition}), f"{starts} starts at offset {record.offset}")
            if starts >= STARTS_TO_NARROW:
                raise Poison(f"{starts} starts of {record.partition} at offset {record.offset}")

    def untouched(self, partitions: frozenset[Partition]) -> frozenset[Partition]:
        """Return those at which no process has ever begun: nothing was decided there. Raises Busy."""
        return partitions - rerun(partial(self._tables.begun, partitions=partitions), self._connection)

    @contextmanager
    def counting_orderly_ends(self) -> Iterator[None]:
        """Take the starts back at an end that no record caused; anything unforeseen counts as a crash."""
        try:
            yield
        except ReportedError:
            self._take_back()
            raise
        self._take_back()

    def _take_back(self) -> None:
        try:
            for partition in self.begun:
                self._tables.take_start_back(self._connection.get(), partition)
        except psycopg.Error as error:  # six crashes still lie between this and a quarantine
            self._connection.runtime.observer.log("warning", "start.not_taken_back", cause=str(error))
