"""What a user says about their handler: which records to feed it, and how its effects are read."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a case is made in every run of pytest, a connection only with --onceloop
    import psycopg

Bytes = bytes | str | None
Pairs = Iterable[tuple[Bytes, Bytes]]
Records = Pairs | Mapping[str, Pairs]
Rows = Iterable[Sequence[object]]


RECORDS_MIN = 20
"""Fewer may fit into one batch, and half of the points are tried in the second."""


class CaseError(Exception):
    """A case cannot be tried; the text names the argument and says why."""


class Item(NamedTuple):
    """One record of a case: the input topic, by the user's own name, key and value."""

    topic: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One app and what to try it with.

    `app`: "package.module:name" of the `Once`.
    `records`: pairs of key and value, or pairs per input topic; or a function that makes them from a
    `random.Random`, which `--onceloop-seed` repeats. 20 at least, so that there are several batches; each with a key of
    its own.
    `effects`: a query whose rows show what the handler has done, or a function of a connection that returns such rows.
    They must follow from the records: leave out times, and what depends on the order between partitions.
    `expected`: the rows that are to be found; without it those of an undisturbed run.
    `setup`: SQL that makes the handler's tables, run after `init`.
    `poison`: records that the handler refuses; without it the harness raises in the handler's place.
    `partitions`: of each input. `batch_records_max`: small, so that there are several batches.
    `settle_seconds`: how long all of it may take after a disturbance.
    """

    app: str
    records: Records | Callable[[random.Random], Records]
    effects: str | Callable[["psycopg.Connection"], Rows]
    expected: Rows | None = None
    setup: str = ""
    poison: Records = ()
    partitions: int = 2
    batch_records_max: int = 8
    settle_seconds: float = 40.0

    def __post_init__(self) -> None:
        for name in ("records", "expected", "poison"):
            if isinstance(given := getattr(self, name), Iterator):  # it would be empty for the second trial
                object.__setattr__(self, name, list(given))

    def items(self, seed: int, inputs: Sequence[str]) -> list[Item]:
        """Return the records for a seed. Raises CaseError for too few, or a topic that is no input of the app."""
        records = self.records(random.Random(seed)) if callable(self.records) else self.records  # noqa: S311 - seeded
        found = items(records, inputs)
        if len(found) < RECORDS_MIN:
            raise CaseError(f"records: {len(found)} are too few for several batches; {RECORDS_MIN} at least")
        return found


def items(records: Records, inputs: Sequence[str]) -> list[Item]:
    """Return records as they are fed: by topic, text as UTF-8."""
    if not isinstance(records, Mapping):
        if len(inputs) != 1:
            raise CaseError(f"records: the app has {len(inputs)} inputs; give the records per topic, as a dict")
        records = {inputs[0]: records}
    if unknown := records.keys() - set(inputs):
        raise CaseError(f"records: {', '.join(sorted(unknown))} is no input of the app, which has {', '.join(inputs)}")
    return [Item(topic, _bytes(key), _bytes(value)) for topic, pairs in records.items() for key, value in pairs]


def _bytes(given: Bytes) -> bytes | None:
    return given.encode() if isinstance(given, str) else given
