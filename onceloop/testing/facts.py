"""What a trial found on the topics and in the database: plain values, read by `reader`, judged by `judge`.

Topic names are the user's own: the prefix of the trial is taken off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Row = tuple[object, ...]
"""One row of the effects."""


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] at {self.offset}"


class Written(NamedTuple):
    """One record as bytes; headers in their order."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Fed(NamedTuple):
    """One record that the trial wrote to an input.

    `item`: which record of the case it is, from 0; copies have the number of their original. `name`: what the app's
    own key function makes of it. Both are of no meaning for poison.
    """

    place: Place
    key: bytes | None
    value: bytes | None
    item: int
    name: bytes = b""
    poison: bool = False


class Published(NamedTuple):
    """One record that a plain read_committed consumer finds on an output."""

    place: Place
    record: Written


class Decided(NamedTuple):
    """One row of `decided`: the key, the record that owns it, and what is stored to be published.

    `refused`: what is stored is the dead letter of that record.
    """

    key: bytes
    owner: Place
    records: tuple[Written, ...]
    refused: bool = False


class DeadLetter(NamedTuple):
    """One record on a dead-letter topic, and the reason that its headers give."""

    place: Place
    record: Written
    reason: str


class Ended(NamedTuple):
    """How one process ended, and how it should have: exit codes, negative ones are signals."""

    name: str
    code: int
    expected: frozenset[int]
    last_lines: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of one trial. `offsets` and `ends`: per (topic, partition) of the inputs."""

    fed: Sequence[Fed]
    published: Sequence[Published]
    decided: Sequence[Decided]
    effects: Sequence[Row]
    expected: Sequence[Row]
    dead_letters: Sequence[DeadLetter]
    offsets: Mapping[tuple[str, int], int]
    ends: Mapping[tuple[str, int], int]
    ended: Sequence[Ended] = ()
    expected_by: str = "an undisturbed run"
    """Where `expected` comes from, in words."""
    waited_seconds: float = 0.0
    open_transactions: Sequence[str] = field(default=())
    """Output partitions that read_committed readers cannot read to their end."""
