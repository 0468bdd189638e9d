"""Say which records of a batch are to be decided, which repeat what was decided, and which are silent. Pure.

The first record that brings a key owns it: its coordinate stands in the row, and it alone has the key's records
published, now and on every replay. Any other record of the key moves its offset and says nothing. A record that was
refused leaves its key to others.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from onceloop.records import InputRecord, OutputRecord, Partition
from onceloop.stored_records import unpack

Coordinate = tuple[Partition, int]
Found = dict[Coordinate, tuple[OutputRecord, ...]]
"""What records publish, by where they stand."""


class Row(NamedTuple):
    """One decision. `owner`: partition and offset of the record that alone has it published."""

    key: bytes
    owner: tuple[Partition, int]
    records: bytes
    refused: bool


class Item(NamedTuple):
    """One record and its key. `trouble`: what the key function raised, where there is no key."""

    record: InputRecord
    key: bytes
    trouble: Exception | None = None

    @property
    def coordinate(self) -> Coordinate:
        """Return where the record stands."""
        return self.record.partition, self.record.offset


def undecided(part: Iterable[Item], known: Mapping[bytes, Row]) -> list[Item]:
    """Return the first item of each key that is to be decided, in order. A refused record leaves its key to others."""
    first: dict[bytes, Item] = {}
    for item in part:
        row = known.get(item.key)
        if row is None or (row.refused and row.owner != item.coordinate):
            first.setdefault(item.key, item)
    return list(first.values())


def replaced(rows: Iterable[Row], known: Mapping[bytes, Row]) -> list[bytes]:
    """Return the keys of new rows in whose place a refusal stands."""
    return [row.key for row in rows if row.key in known]


def replayed(part: Iterable[Item], known: Mapping[bytes, Row]) -> Found:
    """Return what is published of what was decided before: the owner rule."""
    return {
        at: unpack(row.records)
        for item in part
        if (row := known.get(item.key)) and row.owner == (at := item.coordinate)
    }


def split(part: list[Item], index: int | None) -> list[list[Item]]:
    """Return the part around the record that raised, or its halves if none is known."""
    if index is None:
        middle = len(part) // 2
        return [part[:middle], part[middle:]]
    return [each for each in (part[:index], part[index : index + 1], part[index + 1 :]) if each]
