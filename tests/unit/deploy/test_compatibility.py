"""Which change of a schema breaks whom: the rules by name, in both directions, in words that a person can act on."""

import io
import json

import fastavro
import pytest
from fastavro.utils import generate_many

from common.events.schema_versions import Golden, newest, parse, reread
from deploy.schemas.compatibility import Rule, breaks
from tests.schema_changes import BAD, GOOD, Change, field, record


def with_field(**added: object) -> str:
    schema = json.loads(newest("OrderCreated").text)
    schema["fields"].append(added)
    return json.dumps(schema)


@pytest.mark.parametrize("change", GOOD, ids=lambda each: each.name)
def test_compatible_change_breaks_nothing(change: Change) -> None:
    assert breaks(change.older, change.newer) == ()


@pytest.mark.parametrize("change", BAD, ids=lambda each: each.name)
def test_incompatible_change_breaks_its_rule_whichever_comes_first(change: Change) -> None:
    assert {each.rule for each in breaks(change.older, change.newer)} == change.rules
    assert {each.rule for each in breaks(change.newer, change.older)} == change.rules


@pytest.mark.parametrize("change", GOOD, ids=lambda each: each.name)
def test_what_breaks_nothing_is_read_both_ways(change: Change) -> None:
    """The rules promise what the decoder keeps: records of either version, read by the other."""
    for writer, reader in ((change.older, change.newer), (change.newer, change.older)):
        for written in generate_many(parse(writer), 20):
            out = io.BytesIO()
            fastavro.schemaless_writer(out, parse(writer), written)
            golden = Golden("", written, out.getvalue())
            read = reread(golden, writer, reader)
            assert read.keys() == {field["name"] for field in json.loads(reader)["fields"]}
            assert {name: value for name, value in read.items() if plain(value) and name in written} == {
                name: value for name, value in written.items() if plain(value) and name in read
            }


def plain(value: object) -> bool:
    return isinstance(value, bool | int | float) or value is None


def test_every_rule_is_broken_by_some_change() -> None:
    assert {rule for change in BAD for rule in change.rules} == set(Rule)


@pytest.mark.parametrize(
    ("older", "newer", "message"),
    [
        (
            newest("OrderCreated").text,
            with_field(name="channel", type="string"),
            "field `channel` added without a default: READER_FIELD_MISSING_DEFAULT_VALUE",
        ),
        (
            with_field(name="channel", type="string"),
            newest("OrderCreated").text,
            "field `channel` removed, but had no default: READER_FIELD_MISSING_DEFAULT_VALUE",
        ),
        (
            newest("OrderCreated").text,
            newest("OrderCreated").text.replace('"int"', '"long"'),
            "field `lines[].quantity` changes its type from int to long: TYPE_MISMATCH",
        ),
    ],
)
def test_break_names_the_field_what_happened_to_it_and_the_rule(older: str, newer: str, message: str) -> None:
    assert [str(each) for each in breaks(older, newer)] == [message]


def test_all_that_is_broken_is_reported_at_once() -> None:
    older = json.dumps(record(field("gone"), field("kept", "int")))
    newer = json.dumps(record(field("came"), field("kept", "string")))
    assert [each.rule for each in breaks(older, newer)] == [
        Rule.READER_FIELD_MISSING_DEFAULT_VALUE,
        Rule.TYPE_MISMATCH,
        Rule.READER_FIELD_MISSING_DEFAULT_VALUE,
    ]


def test_schema_that_refers_to_itself_comes_to_an_end() -> None:
    tree = record(field("children", {"type": "array", "items": "shop.v1.Parcel"}), field("weight", "int"))
    heavier = json.dumps(tree).replace('"int"', '"long"')
    assert breaks(json.dumps(tree), json.dumps(tree)) == ()
    assert [each.rule for each in breaks(json.dumps(tree), heavier)] == [Rule.TYPE_MISMATCH]
