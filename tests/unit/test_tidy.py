"""Rules about the source itself that no linter knows. The exception lists only shrink."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common import topics
from services import table

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
READS_ENVIRONMENT = {
    "common/config.py",
    "chaos/run/launch.py",
    "onceloop/examples/ledger.py",
    "onceloop/testing/servers.py",
    "onceloop/testing/members.py",
}
BANNED_NAMES = {"utils", "util", "misc", "helpers", "manager", "data", "info"}
IMPURE_CALLS = {
    "now",
    "utcnow",
    "today",
    "time",
    "time_ns",
    "monotonic",
    "uuid4",
    "uuid7",
    "uuid1",
    "random",
    "urandom",
}


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules(*folders: str) -> list[Path]:
    """Return all modules, or those inside these folders."""
    inside = tuple(f"{folder}/" for folder in folders)
    return [path for path in tracked("*.py") if not folders or named(path).startswith(inside)]


def project() -> dict[str, Any]:
    tools: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    return tools


# What is looked at follows from the tree, so that a new service or package is never forgotten.
PACKAGES = tuple(project()["importlinter"]["root_packages"])
FOR_MAKERS = {"tools"}
OWN_DISTRIBUTION = {"onceloop"}
SERVICES = table.PACKAGES
PRODUCT = (*SERVICES, "common", "onceloop")
COMMAND_LINE = tuple(package for package in PACKAGES if package not in PRODUCT)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield node.lineno, name


def test_there_is_something_to_look_at() -> None:
    assert len(modules(*PRODUCT)) > 40
    assert len(modules("common/events")) > 3


def test_every_folder_with_modules_is_a_package_that_is_looked_at_and_shipped() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in tracked("*/*.py")} - {"tests", "examples"}
    assert folders == set(PACKAGES)
    assert folders - FOR_MAKERS - OWN_DISTRIBUTION == set(project()["hatch"]["build"]["targets"]["wheel"]["packages"])


def test_what_only_makers_need_is_not_in_the_image() -> None:
    """Its list names what goes in, so a folder stays out that nothing lets in."""
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "!deploy" in let_in
    assert not FOR_MAKERS & {line.removeprefix("!") for line in let_in}


def test_every_service_keeps_to_the_inner_layers() -> None:
    contracts = project()["importlinter"]["contracts"]
    layered = next(each for each in contracts if "__main__" in each.get("layers", []))
    assert set(layered["containers"]) == set(SERVICES)


def test_table_of_services_names_every_package_that_runs() -> None:
    runs = {package for package in PACKAGES if (ROOT / package / "__main__.py").exists()}
    assert len(runs) > 3
    assert set(SERVICES) == runs


def test_services_stand_side_by_side_and_know_no_sibling() -> None:
    contracts = project()["importlinter"]["contracts"]
    down = next(each for each in contracts if each["name"] == "Imports point down")
    beside = next(set(layer.split(" | ")) for layer in down["layers"] if SERVICES[0] in layer)
    assert set(SERVICES) <= beside


def test_every_service_is_let_into_the_image() -> None:
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{package}" for package in SERVICES} <= set(let_in)


def test_modules_and_functions_stay_small() -> None:
    found = []
    for path in modules():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MODULE_LINES_MAX:
            found.append(f"{named(path)}: {lines} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    found.append(f"{named(path)}:{node.lineno}: {node.name} has {length} lines")
    assert found == []


def test_environment_is_read_in_one_place() -> None:
    readers = {
        named(path)
        for path in modules(*PRODUCT, "audit", "chaos")
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text(encoding="utf-8"))
    }
    assert readers <= READS_ENVIRONMENT


def test_cores_have_no_clock_and_no_chance() -> None:
    cores = [path for path in modules(*SERVICES) if "core" in path.relative_to(ROOT).parts] + modules("common/events")
    found = [f"{named(path)}:{line}: {name}()" for path in cores for line, name in calls(path) if name in IMPURE_CALLS]
    assert found == []


def test_only_commands_print() -> None:
    found = [f"{named(path)}:{line}" for path in modules(*PRODUCT) for line, name in calls(path) if name == "print"]
    assert found == []


def test_nothing_aborts_a_kafka_transaction() -> None:
    """An abort and the producer's reuse lose the next record in silence; a rebuilt producer settles the same thing."""
    product = modules(*PRODUCT, *COMMAND_LINE)
    assert [named(path) for path in product for _, name in calls(path) if name == "abort_transaction"] == []


def topic_pattern() -> re.Pattern[str]:
    """Match a topic's name in quotes; one that names a group as well (`metrics`) only where a topic is expected."""
    names = {topic.name for topic in topics.ALL_TOPICS} | {sink.dead_letters.name for sink in topics.SINKS}
    groups = {group.name for topic in topics.ALL_TOPICS for group in topic.readers}
    clear, shared = ("|".join(sorted(map(re.escape, found))) for found in (names - groups, names & groups))
    taken_for_a_topic = r"(topics?\s*=|(subscribe|produce|Partition|Record|NewTopic)\()\s*[\[({]?\s*"
    return re.compile(rf"""["']({clear})(-value)?["']|{taken_for_a_topic}["']({shared})["']|["']({shared})-value["']""")


@pytest.mark.parametrize("topic", topics.ALL_TOPICS, ids=lambda topic: topic.name)
def test_name_of_any_topic_is_recognised_outside_of_the_table(topic: topics.Topic) -> None:
    assert topic_pattern().search(f'OutputRecord("{topic.name}", key, value)')
    assert topic_pattern().search(f"subject = '{topic.subject}'")
    assert not topic_pattern().search(f'counter("{topic.name}_total")')


def test_topic_names_stand_in_the_table_alone() -> None:
    names = topic_pattern()
    exempt = {"common/topics.py"}
    found = [
        f"{named(path)}:{number}"
        for path in modules(*PRODUCT, *COMMAND_LINE)
        if named(path) not in exempt
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if names.search(line) and "event_type" not in line
    ]
    assert found == []


def test_files_have_names_that_say_what_of() -> None:
    assert [named(path) for path in modules() if path.stem in BANNED_NAMES] == []


def test_no_error_is_swallowed() -> None:
    found = [
        f"{named(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and all(isinstance(line, ast.Pass) for line in node.body)
    ]
    assert found == []


def test_every_decision_record_is_indexed() -> None:
    index = (ROOT / "docs/adr/README.md").read_text(encoding="utf-8")
    records = [path.name for path in tracked("docs/adr/[0-9]*.md")]
    assert records, "there are decision records"
    assert [name for name in records if f"({name})" not in index] == []


@pytest.mark.parametrize("path", tracked("*.md"), ids=named)
def test_links_in_documents_resolve(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert broken == []


def test_no_machine_and_no_registry_is_named() -> None:
    hosts = re.compile(r"repo1?\.m[a]ven|files\.p[y]thonhosted|p[y]pi\.org|registry\.n[p]mjs|deb\.d[e]bian")
    machine = re.compile(r"(^|[\s\"'=(:])/(work|root|home)/")
    found = []
    for path in tracked("*"):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{named(path)}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if hosts.search(line) or machine.search(line)
        ]
    assert found == []
