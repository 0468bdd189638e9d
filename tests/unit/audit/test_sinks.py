"""A table that is not what its topic says is reported, with the row and the record."""

import re
from typing import Any

import pytest

from audit.readers.avro import UnreadableError
from audit.readers.collector import Record
from audit.sinks import COPIED, Copied, Fold, put_aside
from audit.terms import Coordinate, Offsets, Spot

VOLUME = next(copied for copied in COPIED if copied.event == "MinuteVolume")
MINUTE = 1_750_000_020_000
BEGINS: Offsets = {Spot("metrics", 0): 0}


class Values:
    """In the registry's place: values are what they decode to."""

    def __init__(self, *rows: dict[str, Any] | None) -> None:
        self.rows = rows

    def decode(self, value: bytes | None, expected: str) -> dict[str, Any]:
        row = self.rows[int(value or b"0")]
        if row is None or expected != "MinuteVolume":
            raise UnreadableError("nothing")
        return row


def volume(orders: int, *, revision: int, minute: int = MINUTE) -> dict[str, Any]:
    counts = {"orders": orders, "reserved": orders, "failed": 0, "units": orders, "late": 0}
    return {"minute": minute, **counts, "revision": revision}


def row(fields: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(fields[name] for name in VOLUME.fields)


def folded(*records: dict[str, Any] | None, copied: Copied = VOLUME) -> Fold:
    fold = Fold(copied, Values(*records))  # type: ignore[arg-type]
    for offset in range(len(records)):
        fold.take(Record(Coordinate("metrics", 0, offset), None, b"%d" % offset, lambda: None, lambda: (1, 0)))
    return fold


def wanted(end: int) -> Offsets:
    return {Spot("metrics", 0): end}


def differences(fold: Fold, *rows: dict[str, Any], end: int, begins: Offsets = BEGINS) -> list[str]:
    table = {each["minute"]: row(each) for each in rows}
    return [found.what for found in fold.compare(table, wanted=wanted(end), begins=begins).differences]


def test_table_with_the_last_state_of_each_key_is_right() -> None:
    fold = folded(volume(5, revision=1), volume(7, revision=2), None)
    assert differences(fold, volume(7, revision=2), end=3) == []


def test_row_that_is_missing_is_named_with_its_record() -> None:
    fold = folded(volume(5, revision=1))
    (found,) = differences(fold, end=1)
    assert "is not in the table" in found
    assert str(Coordinate("metrics", 0, 0)) in found


def test_row_with_an_older_state_is_wrong() -> None:
    fold = folded(volume(5, revision=1), volume(7, revision=2))
    (found,) = differences(fold, volume(5, revision=1), end=2)
    assert "orders 5 instead of 7" in found
    assert "revision 1 instead of 2" in found


def test_row_that_no_record_says_is_wrong() -> None:
    fold = folded(volume(5, revision=1))
    (found,) = differences(fold, volume(5, revision=1), volume(1, revision=1, minute=MINUTE + 60_000), end=1)
    assert "has no record of it" in found


@pytest.mark.parametrize("revision", [1, 2])
def test_record_that_came_during_the_comparison_may_be_copied_already_or_not(revision: int) -> None:
    fold = folded(volume(5, revision=1), volume(5, revision=2), volume(1, revision=1, minute=MINUTE + 60_000))
    assert differences(fold, volume(5, revision=revision), end=1) == []


def test_row_whose_record_is_past_its_retention_is_not_held_against_the_table() -> None:
    old = volume(1, revision=1, minute=MINUTE - 60_000)
    fold = folded(volume(5, revision=1))
    assert differences(fold, old, volume(5, revision=1), end=1, begins={Spot("metrics", 0): 40}) == []


@pytest.mark.parametrize("copied", COPIED, ids=lambda copied: copied.event)
def test_every_field_is_selected_in_its_place(copied: Copied) -> None:
    """The statement and the fields are two lists that must run side by side."""
    selected = copied.statement.partition("SELECT")[2].partition("FROM analytics")[0]
    assert re.findall("|".join(rf"\b{name}\b" for name in copied.fields), selected) == list(copied.fields)


def test_dead_letter_of_connect_names_its_record_and_the_reason() -> None:
    headers = {
        "topic": "ns.metrics",
        "partition": "0",
        "offset": "8",
        "stage": "VALUE_CONVERTER",
        "exception.class.name": "RestClientException",
        "exception.message": "no answer",
    }
    named = [(f"__connect.errors.{name}", text.encode()) for name, text in headers.items()]
    letter = Record(Coordinate("x.dlq", 0, 0), None, b"", lambda: named, lambda: (1, 0))
    found = put_aside(letter, short_name=lambda topic: topic.removeprefix("ns."))
    assert found == {Coordinate("metrics", 0, 8): "VALUE_CONVERTER, RestClientException: no answer"}


def test_dead_letter_that_names_no_record_is_passed_over() -> None:
    assert put_aside(Record(Coordinate("x.dlq", 0, 0), None, b"", lambda: None, lambda: (1, 0)), short_name=str) == {}
