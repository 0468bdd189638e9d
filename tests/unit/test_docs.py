"""What the documents name exists: tests, files, functions, commands, log events, rules of the checker."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from audit.rules.invariants import INVARIANTS, MINUTES_COUNTED, NO_FALSE_REFUSAL, TESTIMONY_INVARIANTS
from chaos.points import POINTS
from common.topics import ALL_TOPICS, EVENT_TOPICS
from deploy.cli.main import COMMANDS
from deploy.provision.roles import ROLES
from services.table import PACKAGES

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
    rf"`((?:{'|'.join(PACKAGES)}|common|onceloop|services|deploy|chaos|migrations|tests|tools|benchmarks|docs)"
    r"/[\w./-]*)`(?: ((?:`\w+(?:\.\w+)*`(?:, )?)+))?"
)
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


def headings(document: Path) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    outside_of_code = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", outside_of_code, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", all_documents())
def test_anchors_resolve_on_github__the_site_checks_its_own(document: str) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text(document))
    inside = [(file, anchor) for file, anchor in links if "://" not in file]
    here = ROOT / document
    missing = [
        f"{file}#{anchor}" for file, anchor in inside if anchor not in headings(here.parent / file if file else here)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_named_exists(document: str) -> None:
    commands = set(re.findall(r"(?:`|bin/|^    )pipeline ([a-z]+)", text(document), flags=re.MULTILINE))
    assert commands <= set(COMMANDS)


def test_every_log_event_of_the_runbook_is_logged_somewhere() -> None:
    product = ("common", "onceloop", *PACKAGES)
    source = "\n".join(path.read_text(encoding="utf-8") for part in product for path in (ROOT / part).rglob("*.py"))
    migrations = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "migrations/versions").glob("*.py"))
    tables = set(re.findall(r"CREATE TABLE (\S+)", migrations))
    events = set(EVENT.findall(text("docs/runbook.md"))) - {topic.name for topic in EVENT_TOPICS} - tables
    assert len(events) > 10
    assert [event for event in sorted(events) if f'"{event}"' not in source] == []


def test_workflow_runs_targets_of_the_makefile_alone__on_every_python_and_machine_of_the_readme() -> None:
    """What only a workflow does cannot be tried on a developer's machine."""
    workflow = text(".github/workflows/checks.yml")
    targets = set(re.findall(r"^([a-z-]+):.*## ", text("Makefile"), flags=re.MULTILINE))
    commands = re.findall(r"- run: (.*)", workflow)
    assert {"make check", "make docs", "make test", "make chaos"} == set(commands)
    assert {command.removeprefix("make ") for command in commands} <= targets
    assert all(f'"3.{minor}"' in workflow for minor in range(11, 15))
    assert all(system in workflow for system in ("ubuntu-latest", "ubuntu-24.04-arm", "macos-latest"))


def test_page_on_own_servers_lists_every_topic_group_and_role() -> None:
    """Its permissions are a copy of the table of topics: adding a reader changes both."""
    page = text("docs/howto/run-on-your-own-kafka.md")
    permitted = {row[0]: row[1] for row in re.findall(r"^\| (\w+) \| ((?:Read|Write).*)$", page, flags=re.MULTILINE)}
    owners = {"order-status": "order", "metrics-totals": "metrics"}
    for topic in ALL_TOPICS:
        for writer in topic.writers:
            assert re.search(rf"Write [^;|]*`{re.escape(topic.name)}`", permitted[owners.get(writer, writer)]), (
                topic.name
            )
        for group in topic.readers:
            row = permitted[owners.get(group.name, group.name)]
            assert re.search(rf"Read[^;|]*`{re.escape(topic.name)}`", row), (topic.name, group.name)
            assert f"`{group.name}`" in row.split(" | ")[1]
    assert [topic.name for topic in EVENT_TOPICS if f"| `{topic.name}` | {topic.partitions} |" not in page] == []
    assert [role.name for role in ROLES if f"`{role.name}`" not in page] == []


def test_every_rule_of_the_checker_is_explained() -> None:
    explained = set(re.findall(r"^\| ([SL]\d+)(?: †)? \|", text("docs/guarantees.md"), flags=re.MULTILINE))
    of_runs = {"L3", "L4"}  # judged from processes, not from books
    assert (
        explained
        == {rule.id for rule in (*INVARIANTS, *TESTIMONY_INVARIANTS, MINUTES_COUNTED, NO_FALSE_REFUSAL)} | of_runs
    )


def test_every_crash_point_is_named() -> None:
    named = set(re.findall(r"`([a-z_.]+)`", text("docs/guarantees.md").partition("| group | points |")[2]))
    assert {point.name for point in POINTS} <= named
