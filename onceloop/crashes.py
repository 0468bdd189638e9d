"""Decide what an unforeseen exception says of one record. Pure.

Such an exception ends the process; where one record brings it about, that repeats for ever, for all users of the group.
So a record is given up for it, as poison is, but on evidence alone, since a fault of ours, or an
unforeseen outage, raises for every record:

- it raised alone, `CRASHES_MAX` times, with pauses in between;
- another record has gone through since, in the same process.

What speaks of the world around (`SURROUNDINGS`) is never held against a record: it ends the process, which starts again
at the same offsets.
"""

from confluent_kafka import KafkaException

from onceloop.errors import Busy, Poison, ReportedError
from onceloop.records import InputRecord, Partition

CRASHES_MAX = 3
SURROUNDINGS: tuple[type[Exception], ...] = (Busy, ReportedError, OSError, MemoryError, KafkaException)
"""OSError holds what sockets, TLS and smtplib raise. A service adds the errors of its database's driver."""

Coordinate = tuple[Partition, int]


class Crashes:
    """What one process has seen raise, by coordinate, and what has gone through since."""

    def __init__(self) -> None:
        self._seen: dict[Coordinate, int] = {}
        self._passed_before: dict[Coordinate, int] = {}
        self._passed = self._passed_at_turn = 0

    @property
    def known(self) -> frozenset[Coordinate]:
        """Return the records that raised and were neither worked on nor given up since."""
        return frozenset(self._seen)

    def turn(self) -> None:
        """Begin to try records together: what goes through from here on does so after the first of them has raised."""
        self._passed_at_turn = self._passed

    def passed(self, records: int, *, at: Coordinate | None = None) -> None:
        """Take note of records that were worked on; `at`: of one that stood alone."""
        self._passed += records
        if at is not None:
            self.forget(at)

    def met(self, at: Coordinate) -> int:
        """Count a record that raised alone; return how often it has."""
        self._passed_before.setdefault(at, self._passed_at_turn)
        self._seen[at] = self._seen.get(at, 0) + 1
        return self._seen[at]

    def stands_out(self, at: Coordinate) -> bool:
        """Return True if another record has gone through since this one raised first."""
        return self._passed > self._passed_before[at]

    def forget(self, at: Coordinate) -> None:
        """Drop a record that is done with."""
        self._seen.pop(at, None)
        self._passed_before.pop(at, None)


def coordinate(record: InputRecord) -> Coordinate:
    """Return where a record stands."""
    return record.partition, record.offset


def unforeseen(error: Exception) -> Poison:
    """Return an exception as the poison that a record is given up for.

    It names type and place. The text may hold what the record holds, so the log alone has it.
    """
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" in {place.tb_frame.f_globals.get('__name__')}:{place.tb_lineno}" if place is not None else ""
    return Poison(f"{type(error).__name__}{where}", error_class="crash")
