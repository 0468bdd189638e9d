"""Events and Avro records become each other by the names of the class and the schema; golden bytes: test_codec."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import pytest

from common.events.mapping import from_avro, to_avro


class Colour(StrEnum):
    RED = "red"


class Part(NamedTuple):
    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Made:
    part_ids: tuple[Part, ...]
    made_at_ms: int
    colour: Colour = Colour.RED
    note: str | None = None


def schema(*names: str) -> dict[str, Any]:
    return {"fields": [{"name": name} for name in names]}


WHOLE = schema("note", "colour", "made_at", "part_ids")
EVENT = Made((Part("wheel", 3), Part("nail", 1)), 7, note="by hand")
RECORD = {
    "note": "by hand",
    "colour": "red",
    "made_at": 7,
    "part_ids": [{"name": "wheel", "weight": 3}, {"name": "nail", "weight": 1}],
}


def test_times_enums_and_lists_of_records_are_converted() -> None:
    assert to_avro(Made, WHOLE)(EVENT) == RECORD
    built = from_avro(Made, WHOLE)(RECORD)
    assert built == EVENT
    assert isinstance(built.colour, Colour)
    assert isinstance(built.part_ids[0], Part)


@pytest.mark.parametrize(
    ("names", "unmatched"),
    [
        (("colour", "made_at", "part_ids"), "note"),
        (("note", "colour", "made_at", "part_ids", "size"), "size"),
        (("note", "colour", "made", "part_ids"), "made, made_at_ms"),
    ],
)
def test_field_that_only_one_side_has_is_an_error__it_would_be_lost(names: tuple[str, ...], unmatched: str) -> None:
    for derive in (from_avro, to_avro):
        with pytest.raises(TypeError, match=f"^Made and its schema differ in {unmatched}$"):
            derive(Made, schema(*names))
