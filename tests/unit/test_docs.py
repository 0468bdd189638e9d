"""What the documents name exists: tests, files, functions, commands, log events, rules of the checker."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from chaos.checker.invariants import INVARIANTS, MINUTES_COUNTED, NO_FALSE_REFUSAL, TOLD_INVARIANTS
from chaos.points import POINTS
from common.topics import EVENT_TOPICS
from deploy.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "docs/ARCHITECTURE.md",
    "docs/guarantees.md",
    "docs/books.md",
    "docs/runbook.md",
    "docs/monitoring.md",
    "docs/connect.md",
    "docs/containers.md",
    "docs/glossary.md",
)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SOURCE = re.compile(
    r"`((?:common|onceloop|order_service|inventory_service|notification_service|deploy|chaos|migrations|tests|benchmarks|docs)"
    r"/[\w./-]*)`(?: ((?:`\w+(?:\.\w+)*`(?:, )?)+))?"
)
UNUSED_HAZARDS = {39, 48}
EVENT = re.compile(r"`([a-z]+\.[a-z_]+)`")


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def all_documents() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def names_in(path: Path) -> set[str]:
    """Return what a module defines: functions, classes, methods, constants."""
    defined = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    return defined


def test_guarantees_name_tests() -> None:
    assert len(TEST.findall(text("docs/guarantees.md"))) > 40


def test_every_hazard_is_provoked_by_a_test() -> None:
    rows = re.findall(r"^\| (H\d+(?:, H\d+)*) \|(.*)$", text("docs/guarantees.md"), flags=re.MULTILINE)
    without_test = [numbers for numbers, row in rows if not TEST.search(row)]
    assert without_test == []
    found = [int(number) for numbers, _ in rows for number in re.findall(r"\d+", numbers)]
    assert sorted(found) == [number for number in range(1, max(found) + 1) if number not in UNUSED_HAZARDS]


@pytest.mark.parametrize("document", all_documents())
def test_every_test_named_exists(document: str) -> None:
    missing = [
        f"{file}::{name}"
        for file, name in TEST.findall(text(document))
        if not (ROOT / file).exists() or name not in names_in(ROOT / file)
    ]
    assert missing == []


@pytest.mark.parametrize("document", all_documents())
def test_every_file_and_name_in_it_exists(document: str) -> None:
    missing = []
    for file, names in SOURCE.findall(text(document)):
        path = ROOT / file
        if not path.exists() and not list(ROOT.glob(f"{file}*")):
            missing.append(file)
        elif names and path.suffix == ".py":
            wanted = {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", names)}
            missing += [f"{file} {name}" for name in sorted(wanted - names_in(path))]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_named_exists(document: str) -> None:
    commands = set(re.findall(r"(?:`|bin/|^    )pipeline ([a-z]+)", text(document), flags=re.MULTILINE))
    assert commands <= set(COMMANDS)


def test_every_log_event_of_the_runbook_is_logged_somewhere() -> None:
    product = ("common", "onceloop", "order_service", "inventory_service", "notification_service", "metrics_service")
    source = "\n".join(path.read_text(encoding="utf-8") for part in product for path in (ROOT / part).rglob("*.py"))
    migrations = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations/versions").glob("*.py"))
    tables = set(re.findall(r"CREATE TABLE (\S+)", migrations))
    events = set(EVENT.findall(text("docs/runbook.md"))) - {topic.name for topic in EVENT_TOPICS} - tables
    assert len(events) > 10
    assert [event for event in sorted(events) if f'"{event}"' not in source] == []


def test_every_rule_of_the_checker_is_explained() -> None:
    explained = set(re.findall(r"^\| ([SL]\d+)(?: †)? \|", text("docs/guarantees.md"), flags=re.MULTILINE))
    of_runs = {"L3", "L4"}  # judged from processes, not from books
    assert (
        explained == {rule.id for rule in (*INVARIANTS, *TOLD_INVARIANTS, MINUTES_COUNTED, NO_FALSE_REFUSAL)} | of_runs
    )


def test_every_crash_point_is_named() -> None:
    named = set(re.findall(r"`([a-z_.]+)`", text("docs/guarantees.md").partition("| group | points |")[2]))
    assert {point.name for point in POINTS} <= named
