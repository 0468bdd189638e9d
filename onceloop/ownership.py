"""Say which records of a batch are to be decided, which repeat what was decided, and which are silent. Pure.

The first record of a key that is accepted owns it: its coordinate stands in the row, and it alone has the key's records
published, now and on every replay. Any other record of the key moves its offset and publishes nothing. A record that
was refused has a row of its own, which repeats its dead letter, and leaves its key to others.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from onceloop.errors import ReportedError, Situation
from onceloop.records import InputRecord, OutputRecord, Partition
from onceloop.stored_records import unpack

Coordinate = tuple[Partition, int]
Found = dict[Coordinate, tuple[OutputRecord, ...]]
"""What records publish, by where they stand."""


class Row(NamedTuple):
    """One decision. `owner`: partition and offset of the record that alone has it published.

    A record owns one row at most, and a key has one row at most that is not refused.
    """

    key: bytes
    owner: tuple[Partition, int]
    records: bytes
    refused: bool


class Known(NamedTuple):
    """What is decided already: rows by the record that owns them, and the accepted ones by key."""

    owned: Mapping[Coordinate, Row]
    accepted: Mapping[bytes, Row]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Return rows so that they can be looked up."""
        found = list(rows)
        return cls({row.owner: row for row in found}, {row.key: row for row in found if not row.refused})

    def decides(self, item: "Item") -> bool:
        """Return True if the record has its decision: its own, or that of another record of its key."""
        row = self.owned.get(item.coordinate)
        return (row is not None and row.key == item.key) or item.key in self.accepted

    def refuse_repeated(self, part: Iterable["Item"]) -> None:
        """Raise ReportedError if the row of one of these coordinates is another record's, by its key.

        A topic that was recreated repeats coordinates; what is stored there must not be published in another's name.
        """
        for item in part:
            row = self.owned.get(item.coordinate)
            if row is not None and row.key != item.key:
                at, offset = item.coordinate
                raise ReportedError(
                    f"{at.topic}[{at.number}] at {offset} is decided under the key {row.key!r:.80},"
                    f" not {item.key!r:.80}",
                    cure="if the key function was changed, start its former version until what it has decided is"
                    " published; if the topic was recreated, keep the old rows of the table `decided` under another"
                    " name of their topic: UPDATE decided SET topic = topic || '-former' WHERE ...",
                    situation=Situation.TOPIC_RECREATED,
                )


class Item(NamedTuple):
    """One record and its key. `trouble`: what the key function raised, where there is no key."""

    record: InputRecord
    key: bytes
    trouble: Exception | None = None

    @property
    def coordinate(self) -> Coordinate:
        """Return where the record stands."""
        return self.record.partition, self.record.offset


def undecided(part: Iterable[Item], known: Known) -> list[Item]:
    """Return the first item of each key that is to be decided, in order. A refused record leaves its key to others."""
    first: dict[bytes, Item] = {}
    for item in part:
        if not known.decides(item):
            first.setdefault(item.key, item)
    return list(first.values())


def replayed(part: Iterable[Item], known: Known) -> Found:
    """Return what is published of what was decided before: the owner rule."""
    return {item.coordinate: unpack(row.records) for item in part if (row := known.owned.get(item.coordinate))}


def split(part: list[Item], index: int | None) -> list[list[Item]]:
    """Return the part around the record that raised, or its halves if none is known."""
    if index is None:
        middle = len(part) // 2
        return [part[:middle], part[middle:]]
    return [each for each in (part[:index], part[index : index + 1], part[index + 1 :]) if each]
