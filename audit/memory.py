"""What an incremental audit remembers between its runs: a SQLite file beside the stack.

Records of topics never change, so what was read of them once is kept as facts, also when retention takes them. Rows do
change: of them only a digest per bucket of orders is kept, and orders whose bucket differs are looked at again. A run
writes all of it in one transaction, or nothing.
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from audit.books import Books, Created, Outcome, Sent, Verdict
from audit.facts import LISTED, body_of, fact_of, listed_of
from audit.readers.collector import Collector
from audit.readers.table_digests import Digests, bucket_of
from audit.terms import Coordinate, Spot, Sums
from onceloop.errors import ExitCode, ReportedError

VERSION = 2
CURE = "judge everything, and begin a new memory: pipeline verify --since start"
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE position (topic TEXT, partition INTEGER, begin INTEGER, next INTEGER, last INTEGER,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE record (topic TEXT, partition INTEGER, offset INTEGER, bucket TEXT, order_id TEXT,
    source_topic TEXT, source_partition INTEGER, source_offset INTEGER, minute INTEGER, units INTEGER, body TEXT,
    PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE INDEX record_bucket ON record (bucket);
CREATE TABLE listed (number INTEGER PRIMARY KEY, kind TEXT, body TEXT);
CREATE TABLE digest (name TEXT, bucket TEXT, count INTEGER, value INTEGER, PRIMARY KEY (name, bucket)) WITHOUT ROWID;
CREATE TABLE open (bucket TEXT PRIMARY KEY) WITHOUT ROWID;
"""


_RECALL = """
SELECT topic, partition, offset, order_id, source_topic, source_partition, source_offset, minute, units, body
FROM record WHERE bucket = ? ORDER BY topic, partition, offset
"""
_STREAMS = """
SELECT topic, partition, source_topic, source_partition, min(source_offset), max(source_offset), max(offset)
FROM record WHERE minute IS NOT NULL AND source_topic IS NOT NULL GROUP BY 1, 2, 3, 4
"""


class MemoryRefusedError(ReportedError):
    """What is remembered is not of this pipeline as it is now."""

    exit_code = ExitCode.CONFIG

    def __init__(self, message: str) -> None:
        super().__init__(message, cure=CURE)


class Position(NamedTuple):
    """How far a partition was read: without a gap from `begin` to `next`; `last` is its last visible record."""

    begin: int
    next: int
    last: int | None


class Stream(NamedTuple):
    """The events on one partition that answer one partition of orders: bounds of what they answer, and the last."""

    at: Spot
    source: Spot
    first: int
    highest: int
    last: int


class Memory:
    """The memory of one pipeline in `path`; `from_start` forgets what it holds, once the run is over.

    `identity` names the pipeline and its topics: another one is refused. `digits` is asked how many characters of an
    order id make a bucket, for a memory that begins. Raises MemoryRefusedError.
    """

    def __init__(
        self, path: Path, *, from_start: bool, identity: Mapping[str, str], digits: Callable[[], int] = lambda: 9
    ) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fresh = from_start or not path.exists()
        self._file = path.with_name(f".{path.name}.{os.getpid()}") if self.fresh else path
        if self.fresh:
            self._file.touch(mode=0o600)  # it names customers; SQLite's own files take their mode from it
        else:
            with suppress(PermissionError):  # another user's: whether it can be written, SQLite says
                path.chmod(0o600)  # an earlier release left it open
        self._connection = sqlite3.connect(self._file, timeout=0, isolation_level=None)
        try:
            self._open(identity, digits)
            self.digits = int(self._meta("digits"))
        except sqlite3.DatabaseError as error:
            self.close()
            if "locked" in str(error):
                raise ReportedError(f"another verify is at work with {path}", cure="wait until it has ended") from error
            raise MemoryRefusedError(f"{path} cannot be read: {error}") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; what was not saved is forgotten."""
        self._connection.close()
        if self.fresh:
            with suppress(FileNotFoundError):
                self._file.unlink()

    def _open(self, identity: Mapping[str, str], digits: Callable[[], int]) -> None:
        if self.fresh:
            self._connection.execute("PRAGMA synchronous = OFF")  # no other process knows the file before it is whole
            self._connection.executescript(SCHEMA)
            self._connection.execute("BEGIN IMMEDIATE")
            known = {"version": str(VERSION), "digits": str(digits()), **identity}
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", known.items())
            return
        self._connection.execute("BEGIN IMMEDIATE")
        known = dict(self._rows("SELECT name, value FROM meta"))
        if known.get("version") != str(VERSION):
            raise MemoryRefusedError(f"{self._path} was written by another version of the checker")
        for name, value in identity.items():
            if known.get(name) != value:
                what = f"{name} was {known.get(name, 'unknown')}, and is {value}"
                raise MemoryRefusedError(f"{self._path} remembers another pipeline, or a recreated topic: {what}")

    def _rows(self, statement: str, values: Iterable[Any] = ()) -> Iterator[tuple[Any, ...]]:
        return iter(self._connection.execute(statement, tuple(values)))

    @property
    def judged_at(self) -> str:
        """When the run ended that left this; empty if there was none."""
        return self._meta("judged_at")

    @property
    def sound(self) -> bool:
        """Return True if nothing was broken then but the time that orders take: only what changed is to be judged."""
        return self._meta("sound") == "yes"

    def _meta(self, name: str) -> str:
        return next((value for (value,) in self._rows("SELECT value FROM meta WHERE name = ?", [name])), "")

    def positions(self) -> dict[Spot, Position]:
        """Return how far each partition was read."""
        rows = self._rows("SELECT topic, partition, begin, next, last FROM position")
        return {Spot(topic, number): Position(*rest) for topic, number, *rest in rows}

    def digests(self) -> Digests:
        """Return what stood for the rows of each bucket."""
        return {(name, bucket): (count, value) for name, bucket, count, value in self._rows("SELECT * FROM digest")}

    def open_buckets(self) -> set[str]:
        """Return the buckets of orders that were still on their way."""
        return {bucket for (bucket,) in self._rows("SELECT bucket FROM open")}

    def buckets(self) -> set[str]:
        """Return all buckets of which there are records."""
        return {bucket for (bucket,) in self._rows("SELECT DISTINCT bucket FROM record")}

    def recall_lists(self, found: Collector) -> None:
        """Give a collector what is remembered but of no order: poison, counts, dead letters, faults of records."""
        for kind, body in self._rows("SELECT kind, body FROM listed ORDER BY number"):
            getattr(found, kind).append(listed_of(kind, json.loads(body)))

    def recall(self, found: Collector, buckets: Iterable[str]) -> None:
        """Put the records of these buckets before those that the collector has read itself."""
        groups: dict[str, dict[str, tuple[Any, ...]]] = {"created": {}, "outcomes": {}, "sent": {}}
        for bucket in sorted(buckets):  # of a set: the same culprits first in every run
            for row in self._rows(_RECALL, [bucket]):
                kind, fact = fact_of(*row)
                groups[kind][fact.order_id] = (*groups[kind].get(fact.order_id, ()), fact)
        for kind, group in groups.items():
            into: dict[str, tuple[Any, ...]] = getattr(found, kind)
            for order_id, facts in group.items():
                into[order_id] = (*facts, *into.get(order_id, ()))

    def streams(self) -> tuple[Stream, ...]:
        """Return the streams of events, in which records stand in the order of what they answer."""
        rows = self._rows(_STREAMS)
        return tuple(Stream(Spot(topic, number), Spot(of, part), *rest) for topic, number, of, part, *rest in rows)

    def buckets_at(self, places: Iterable[Coordinate]) -> set[str]:
        """Return the buckets of the records that stand there."""
        statement = "SELECT bucket FROM record WHERE topic = ? AND partition = ? AND offset = ?"
        return {bucket for at in places for (bucket,) in self._rows(statement, at)}

    def buckets_answering(self, spot: Spot, *, above: int) -> set[str]:
        """Return the buckets of events that answer records of this partition from this offset on."""
        statement = (
            "SELECT DISTINCT bucket FROM record"
            " WHERE source_topic = ? AND source_partition = ? AND source_offset >= ? AND minute IS NOT NULL"
        )
        return {bucket for (bucket,) in self._rows(statement, (*spot, above))}

    def counted(self, books: Books, aside: Callable[[Coordinate], bool]) -> dict[tuple[Spot, int], Sums]:
        """Sum up, per partition and minute, the remembered outcomes that are accounted for, but those put `aside`."""
        sums: dict[tuple[Spot, int], Sums] = {}
        for spot, stands in books.counting.items():
            for minute, count, units in self._rows(
                "SELECT minute, count(*), sum(units) FROM record"
                " WHERE topic = ? AND partition = ? AND offset < ? AND minute + 60000 <= ? GROUP BY 1",
                (*spot, stands.read_to, stands.closed_to),
            ):
                sums[spot, minute] = sums_of(spot, count, units)
        for at, minute, units in self._letters(books, aside):
            if (at.spot, minute) in sums and at.offset < books.counting[at.spot].read_to:
                reserved, failed, held = sums[at.spot, minute]
                less = sums_of(at.spot, 1, units)
                sums[at.spot, minute] = reserved - less[0], failed - less[1], held - less[2]
        return sums

    def overdue(self, books: Books, aside: Callable[[Coordinate], bool]) -> dict[tuple[Spot, int], int]:
        """Count, per partition and minute, the remembered outcomes that should be accounted for by now and are not."""
        late: dict[tuple[Spot, int], int] = {}
        for spot, end in books.overdue.items():
            stands = books.counting.get(spot)
            for minute, offset in self._rows(
                "SELECT minute, offset FROM record WHERE topic = ? AND partition = ? AND offset < ?"
                " AND minute + 60000 <= ? AND (offset >= ? OR minute + 60000 > ?)",
                (*spot, end, books.overdue_ms, stands.read_to if stands else 0, stands.closed_to if stands else 0),
            ):
                if not aside(Coordinate(*spot, offset)):
                    late[spot, minute] = late.get((spot, minute), 0) + 1
        return late

    def _letters(self, books: Books, aside: Callable[[Coordinate], bool]) -> Iterator[tuple[Coordinate, int, int]]:
        for letter in books.dead_letters:
            if letter.source is not None and aside(letter.source):
                statement = "SELECT minute, units FROM record WHERE topic = ? AND partition = ? AND offset = ?"
                for minute, units in self._rows(statement, letter.source):
                    yield letter.source, minute, units

    def counts(self) -> Counter[str]:
        """Return how many records there are of each topic, and under `<topic> orders` of how many orders."""
        return Counter(json.loads(self._meta("counts") or "{}"))

    def put(
        self,
        found: Collector,
        *,
        positions: Mapping[Spot, Position],
        digests: Digests,
        still_open: Iterable[str],
        sound: bool,
        judged_at: str,
    ) -> None:
        """Take in what was read and judged; no reader sees it before `commit`.

        Of every order of which something was read, all that was remembered must have been recalled.
        """
        write = self._connection.executemany
        write(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_row(fact, self.digits) for fact in found.fresh),
        )
        known = dict(self._rows("SELECT kind, count(*) FROM listed GROUP BY 1"))
        for kind in LISTED:
            news = getattr(found, kind)[known.get(kind, 0) :]
            write("INSERT INTO listed (kind, body) VALUES (?, ?)", ((kind, body_of(each)) for each in news))
        write("REPLACE INTO position VALUES (?, ?, ?, ?, ?)", ((*spot, *at) for spot, at in positions.items()))
        before = self.digests()
        write("DELETE FROM digest WHERE name = ? AND bucket = ?", before.keys() - digests.keys())
        changed = ((*key, *value) for key, value in digests.items() if before.get(key) != value)
        write("REPLACE INTO digest VALUES (?, ?, ?, ?)", changed)
        self._connection.execute("DELETE FROM open")
        write("INSERT INTO open VALUES (?)", ((bucket,) for bucket in still_open))
        counts = json.dumps(self.counts() + _counts(found))
        said = {"sound": "yes" if sound else "no", "judged_at": judged_at, "counts": counts}
        write("REPLACE INTO meta VALUES (?, ?)", said.items())

    def commit(self) -> None:
        """Keep all of it, in one step."""
        self._connection.execute("COMMIT")
        if self.fresh:
            self._connection.close()
            self._file.replace(self._path)


def sums_of(spot: Spot, count: int, units: int) -> Sums:
    """Return reserved orders, failed orders, units of the reserved."""
    return (count, 0, units) if spot.topic == Verdict.RESERVED.value else (0, count, 0)


def _counts(found: Collector) -> Counter[str]:
    """Count what was read: an order is new to a topic if what stands first of it there was read now."""
    fresh = {fact.at for fact in found.fresh}
    counts = Counter(at.topic for at in fresh)
    for groups in (found.created, found.outcomes, found.sent):
        first: Iterable[Created | Outcome | Sent] = (group[0] for group in groups.values())
        counts.update(f"{fact.at.topic} orders" for fact in first if fact.at in fresh)
    return counts


def _row(fact: Created | Outcome | Sent, digits: int) -> tuple[Any, ...]:
    source = getattr(fact, "source", None) or (None, None, None)
    minute, units = (fact.minute, fact.units) if isinstance(fact, Outcome) else (None, None)
    return (*fact.at, bucket_of(fact.order_id, digits), fact.order_id, *source, minute, units, body_of(fact))
