"""`pipeline schemas`: the tree passes, every planted mistake is named by its rule, publishing is for ever."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from common.events.schema_versions import PACKAGED, golden_name, versions
from deploy.cli.main import app
from deploy.schemas.offline import check, check_all
from onceloop.errors import ExitCode

Avro = dict[str, Any]
CURRENCY = {"name": "currency", "type": "string", "default": "EUR"}
NOTE = {"name": "note", "type": ["null", "string"], "default": None}


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """A copy of the tree's schemas, to plant mistakes in. OrderCreated has one version, however many there are."""
    shutil.copytree(str(PACKAGED), tmp_path / "schemas")
    for version in versions("OrderCreated")[1:]:
        (tmp_path / "schemas" / "OrderCreated" / f"v{version.number}.avsc").unlink()
        (tmp_path / "schemas" / "OrderCreated" / golden_name(version.number)).unlink(missing_ok=True)
    return tmp_path / "schemas"


def run(schemas: Path, command: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["schemas", command, *arguments, "--schemas", str(schemas)])
    return result.exit_code, result.output


def add_version(schemas: Path, change: Callable[[Avro], object], number: int = 2) -> Path:
    """Write OrderCreated's next version: the newest one, changed."""
    schema = json.loads(versions("OrderCreated", schemas)[-1].text)
    change(schema)
    file = schemas / "OrderCreated" / f"v{number}.avsc"
    file.write_text(json.dumps(schema))
    return file


def add(*fields: Avro) -> Callable[[Avro], object]:
    return lambda schema: schema["fields"].extend(fields)


def rules(schemas: Path) -> list[str]:
    return [str(finding.rule) for finding in check("OrderCreated", schemas).findings]


def test_schemas_of_the_tree_are_sound() -> None:
    """The mistake's name, its meaning and the way out: docs/schema-evolution.md."""
    assert [str(finding) for checked in check_all() for finding in checked.findings] == []


def test_planted_change_fails_the_check_with_its_rule_named(schemas: Path) -> None:
    add_version(schemas, add({"name": "channel", "type": "string"}))
    code, output = run(schemas, "check", "--offline")
    assert code == ExitCode.VIOLATION
    message = "OrderCreated: v1 -> v2: field `channel` added without a default: READER_FIELD_MISSING_DEFAULT_VALUE"
    assert f"error: {message}" in output.splitlines()


def test_version_is_compared_with_all_before_it__not_only_the_last(schemas: Path) -> None:
    """v2 has a field that v3 has not; v4 brings it back with another type, which only readers of v2 notice."""
    add_version(schemas, add(CURRENCY))
    add_version(schemas, lambda schema: schema["fields"].pop(), number=3)
    add_version(schemas, add(CURRENCY | {"type": "int", "default": 0}), number=4)
    found = [finding.what for finding in check("OrderCreated", schemas).findings if finding.rule == "TYPE_MISMATCH"]
    assert found == ["v2 -> v4: field `currency` changes its type from string to int"]


def plant(schemas: Path, mistake: str) -> None:
    folder = schemas / "OrderCreated"
    match mistake:
        case "edited":
            text = (folder / "v1.avsc").read_text()
            (folder / "v1.avsc").write_text(text.replace("Event time, UTC.", "Local time."))
        case "golden cut":
            golden = json.loads((folder / "v1.golden.json").read_text())
            (folder / "v1.golden.json").write_text(json.dumps({**golden, "avro_hex": golden["avro_hex"][:-2]}))
        case "golden for another":
            golden = json.loads((folder / "v1.golden.json").read_text())
            record = {**golden["record"], "user_id": "bob"}
            (folder / "v1.golden.json").write_text(json.dumps({**golden, "record": record}))
        case "no golden":
            (folder / "v1.golden.json").unlink()
        case "gap":
            add_version(schemas, add(CURRENCY), number=3)
        case "no JSON":
            (folder / "v1.avsc").write_text("{")
        case "another record":
            add_version(schemas, lambda schema: schema.update(name="Order"))
        case "default of another type":
            add_version(schemas, add({"name": "gift", "type": "boolean", "default": "no"}))


@pytest.mark.parametrize(
    ("mistake", "rule"),
    [
        ("edited", "PUBLISHED_CHANGED"),
        ("golden cut", "GOLDEN_UNREADABLE"),
        ("golden for another", "GOLDEN_CHANGED"),
        ("no golden", "NO_GOLDEN_BYTES"),
        ("gap", "VERSION_MISSING"),
        ("no JSON", "INVALID_SCHEMA"),
        ("another record", "INVALID_SCHEMA"),
        ("default of another type", "INVALID_SCHEMA"),
    ],
)
def test_mistake_is_named(schemas: Path, mistake: str, rule: str) -> None:
    plant(schemas, mistake)
    assert rule in rules(schemas)


def test_event_without_a_topic_or_a_schema_is_named(schemas: Path) -> None:
    (schemas / "OrderCreated").rename(schemas / "OrderPlaced")
    found = {(finding.event, finding.rule) for each in check_all(schemas) for finding in each.findings}
    assert {("OrderCreated", "NO_SCHEMA"), ("OrderPlaced", "NO_TOPIC"), ("OrderPlaced", "NO_EVENT")} <= found


def test_change_is_published_by_its_golden_bytes(schemas: Path) -> None:
    add_version(schemas, add(CURRENCY, NOTE))
    assert rules(schemas) == ["NO_GOLDEN_BYTES"]
    assert run(schemas, "freeze", "OrderCreated", "--field", "currency=USD")[0] == 0
    assert rules(schemas) == []
    golden = versions("OrderCreated", schemas)[-1].golden
    assert golden is not None
    before = versions("OrderCreated", schemas)[0].golden
    assert before is not None
    assert golden.record == {**before.record, "currency": "USD", "note": None}


def test_published_version_stays_as_it_is(schemas: Path) -> None:
    code, output = run(schemas, "freeze", "OrderCreated", "--field", "user_id=bob")
    assert (code, output.strip().endswith("stands")) == (0, True)
    plant(schemas, "edited")
    code, output = run(schemas, "freeze", "OrderCreated")
    assert code == ExitCode.SOFTWARE
    assert "v2.avsc" in output


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (add({"name": "channel", "type": "string"}), ("--field", "channel=shop"), "READER_FIELD_MISSING_DEFAULT_VALUE"),
        (add(CURRENCY), ("--field", "curency=USD"), "no field curency"),
        (add(CURRENCY), ("--field", "currency=7"), "does not fit"),
        (add(CURRENCY), ("--field", "currency"), "NAME=VALUE"),
    ],
)
def test_version_that_cannot_stand_is_not_published(
    schemas: Path, change: Callable[[Avro], object], arguments: tuple[str, ...], message: str
) -> None:
    add_version(schemas, change)
    code, output = run(schemas, "freeze", "OrderCreated", *arguments)
    assert code != 0
    assert message in output
    assert not (schemas / "OrderCreated" / "v2.golden.json").exists()


def test_difference_is_reported_field_by_field(schemas: Path) -> None:
    add_version(schemas, add(CURRENCY, NOTE))
    code, output = run(schemas, "diff", "OrderCreated")
    assert code == 0
    assert output.splitlines() == [
        "OrderCreated v1 -> v2",
        '  + currency: string = "EUR"',
        "  + note: null | string = null",
        "each reads what the other wrote",
    ]


def test_difference_is_reported_to_a_script(schemas: Path) -> None:
    add_version(schemas, add(CURRENCY, NOTE))
    code, output = run(schemas, "diff", "OrderCreated", "--json")
    assert code == 0
    assert json.loads(output) == {
        "event": "OrderCreated",
        "old": 1,
        "new": 2,
        "changes": ['+ currency: string = "EUR"', "+ note: null | string = null"],
        "broken": [],
    }


def test_unknown_event_or_version_is_answered_with_the_known_ones(schemas: Path) -> None:
    code, output = run(schemas, "diff", "OrderPlaced")
    assert (code, "OrderCreated" in output) == (ExitCode.USAGE, True)
    code, output = run(schemas, "diff", "OrderCreated", "1", "7")
    assert (code, "it has 1" in output) == (ExitCode.USAGE, True)
