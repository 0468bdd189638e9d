"""Count the starts of processes at one offset, and stop at a record that ends every process which touches it.

Such a record would stop its partition and burn the machine: after three starts at one offset records are taken singly,
after six the partition is left alone and a person is called. No dead letter is written for it: a wrong one loses an
order.
"""

from collections.abc import Callable, Sequence

import psycopg

from common.log import get_logger
from inventory_service.io import start_store
from onceloop.errors import Poison
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import rerun
from onceloop.records import InputRecord, Partition, Quarantine

STARTS_TO_NARROW = 3
STARTS_TO_QUARANTINE = 6

log = get_logger()


class StartGuard:
    """Of one process. `begun`: the partitions at which it is counted."""

    def __init__(self, connection: HotConnection) -> None:
        self._connection = connection
        self.begun: set[Partition] = set()

    def count(self, batch: Sequence[InputRecord]) -> None:
        """Count this process at the first offset that it takes from each partition.

        Raises Poison if records are to be taken singly there, Quarantine if none is to be taken, Busy.
        """
        for record in batch:
            if record.partition in self.begun:
                continue
            starts = rerun(_count_at(record), self._connection)
            self.begun.add(record.partition)
            if starts >= STARTS_TO_QUARANTINE:
                raise Quarantine(frozenset({record.partition}), f"{starts} starts at offset {record.offset}")
            if starts >= STARTS_TO_NARROW:
                raise Poison(f"{starts} starts of {record.partition} at offset {record.offset}")

    def untouched(self, partitions: frozenset[Partition]) -> frozenset[Partition]:
        """Return those at which no process has ever begun: nothing was decided there. Raises Busy."""
        return partitions - rerun(lambda connection: start_store.begun(connection, partitions), self._connection)

    def take_back(self) -> None:
        """Take the counted starts back: a stop, or an end that says why, is no crash of a record's making."""
        try:
            for partition in self.begun:
                start_store.take_start_back(self._connection.get(), partition)
        except psycopg.Error as error:
            log.warning("start.not_taken_back", cause=str(error))  # six crashes still lie between this and a quarantine


def _count_at(record: InputRecord) -> Callable[[psycopg.Connection], int]:
    return lambda connection: start_store.count_start(connection, record.partition, record.offset)
