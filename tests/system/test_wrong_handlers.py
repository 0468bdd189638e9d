"""`onceloop.testing` catches a wrong handler by the rule that it breaks, and says what to do about it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onceloop.testing import Servers
from onceloop.testing.case import Case
from onceloop.testing.judge import Rule
from onceloop.testing.points import POINTS
from onceloop.testing.runner import Runner
from onceloop.testing.trials import TRIALS, Kind, Trial
from tests.stack import Stack
from tests.wrong_handlers import case, journal_lines

ROOT = Path(__file__).parents[2]
UNDISTURBED, DUPLICATES, POISON = Trial(Kind.UNDISTURBED), Trial(Kind.DUPLICATES), Trial(Kind.POISON)
pytestmark = pytest.mark.xdist_group("wrong-handlers")  # they run side by side anyway


def kill(name: str) -> Trial:
    return Trial(Kind.KILL, next(point for point in POINTS if point.name == name))


WRONG: dict[str, tuple[Case, Trial, Rule, list[str]]] = {
    "own connection": (
        case("own_connection"),
        kill("handled"),
        Rule.EFFECTS,
        [
            "found, not expected: ('p",
            "expected, not found: nothing",
            "a connection of its own",
            "Write through `db` alone",
        ],
    ),
    "own file": (
        case("own_file", effects=journal_lines),
        kill("handled"),
        Rule.EFFECTS,
        ["found, not expected: ('p", "a file", "Write through `db` alone"],
    ),
    "own producer": (
        case("own_producer"),
        UNDISTURBED,
        Rule.BYTES,
        ["'booked at once'", "stored nowhere", "return the records instead"],
    ),
    "own commit": (
        case("own_commit"),
        UNDISTURBED,
        Rule.ENDS,
        ["ended with 70 instead of 0", "the handler called commit()", "leave the transaction to the library"],
    ),
    "own memory": (
        case("own_memory"),
        POISON,
        Rule.POISON,
        ["a good record was put aside as poison", "seen before"],
    ),
    "endless": (
        case("endless", settle_seconds=8),
        UNDISTURBED,
        Rule.OFFSETS,
        ["records are unread", "on the topic: next: '{", "does not come back from this record"],
    ),
    "key by place": (
        case("key_by_place"),
        DUPLICATES,
        Rule.OUTCOME,
        ["one record and its copy have 2 decisions", "compute the key from the record's key or value alone"],
    ),
}


def servers_of(stack: Stack) -> Servers:
    settings = stack.settings
    password = settings.postgres_admin_password.get_secret_value()
    return Servers(settings.kafka_bootstrap, settings.postgres_admin_url.replace("@", f":{password}@", 1))


@pytest.fixture(scope="module")
def runner(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    tmp_path_factory.getbasetemp()  # made here: the runner's threads would race for it
    begun = Runner(servers_of(servers), seed=1, jobs=4, new_folder=lambda _: tmp_path_factory.mktemp("trial"))
    begun.begin([(tried, trial) for tried, trial, _, _ in WRONG.values()])
    yield begun
    begun.close()


@pytest.fixture(scope="module")
def sound() -> Case:
    return case("sound")


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_handler_is_caught_by_the_rule_that_it_breaks(runner: Runner, mistake: str) -> None:
    tried, trial, rule, words = WRONG[mistake]
    verdict = runner.verdict(tried, trial)
    texts = [" ".join(str(finding).split()) for finding in verdict.findings if finding.rule is rule]
    assert texts, verdict
    assert [word for word in words if word not in texts[0]] == [], texts[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"app": "tests.nowhere:app"}, "app: No module named 'tests.nowhere'"),
        ({"app": "tests.wrong_handlers:right"}, "app: there is no Once at tests.wrong_handlers:right"),
        ({"setup": "CREATE TABEL entry ()"}, "setup: syntax error"),
        ({"effects": "SELECT cents FROM nothing"}, 'effects: relation "nothing" does not exist'),
        ({"records": [("p1", "{}")]}, "records: 1 are too few"),
    ],
)
def test_case_that_cannot_be_tried_is_named(runner: Runner, changes: dict[str, Any], words: str) -> None:
    verdict = runner.verdict(case("sound", **changes), UNDISTURBED)
    assert words in verdict.unfit
    assert runner.verdict(case("sound", **changes), DUPLICATES).skipped


def test_records_that_share_a_key_are_worth_a_note(runner: Runner) -> None:
    records = [(f"p{n % 2}", json.dumps({"cents": n})) for n in range(20)]
    verdict = runner.verdict(case("sound", records=records), UNDISTURBED)
    assert (verdict.findings, verdict.unfit) == ([], "")
    assert any("20 records have 2 keys" in note for note in runner.notes)


def test_every_rule_has_a_handler_that_breaks_it() -> None:
    assert {rule for _, _, rule, _ in WRONG.values()} == set(Rule)


@pytest.mark.parametrize("trial", [kill("handled"), POISON, DUPLICATES], ids=str)
def test_right_handler_passes_where_a_wrong_one_is_caught(runner: Runner, sound: Case, trial: Trial) -> None:
    verdict = runner.verdict(sound, trial)
    assert (verdict.findings, verdict.missed, verdict.skipped) == ([], "", "")


def pytest_run(servers: Stack, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    at = servers_of(servers)
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml")),
            *(f"--rootdir={folder}", "--onceloop", "--onceloop-seed=7", *arguments, str(folder)),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "ONCELOOP_BOOTSTRAP": at.bootstrap,
            "ONCELOOP_DSN": at.dsn,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_user_reads_the_rule_and_how_to_try_again(servers: Stack, tmp_path: Path) -> None:
    """Aim: the plugin from the command line. A trial that passes, one that fails, in the words that a user sees."""
    (tmp_path / "test_mine.py").write_text("from tests.wrong_handlers import case\n\nMINE = case('own_connection')\n")
    done = pytest_run(servers, tmp_path, "-k", "undisturbed or kill[handled]")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    assert "effects once: tests.wrong_handlers:own_connection, kill[handled]" in done.stdout
    assert "killed where: the handler has returned, and nothing of it is committed" in done.stdout
    assert "broken rule: effects once" in done.stdout
    assert "again: pytest --onceloop --onceloop-seed 7 'test_mine.py::MINE::kill[handled]'" in done.stdout


def test_page_about_writing_a_step_leads_to_a_passing_run(servers: Stack, tmp_path: Path) -> None:
    """The files that the page has a newcomer save, as they stand there."""
    page = (ROOT / "docs/howto/write-a-step.md").read_text(encoding="utf-8")
    app, case_of_it = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "loyalty.py").write_text(app, encoding="utf-8")
    (tmp_path / "test_loyalty.py").write_text(case_of_it, encoding="utf-8")
    done = pytest_run(servers, tmp_path, "-k", "undisturbed or kill[db.sent]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert f"`{len(TRIALS)} passed`" in page
    assert f"SIGKILL at a point of the loop, {len(POINTS)} of them" in page
