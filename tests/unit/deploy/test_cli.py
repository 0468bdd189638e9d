import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from common.errors import ExitCode, PipelineError
from deploy.cli import kill, logs, main
from deploy.cli.main import COMMANDS, app
from deploy.local import home as homes
from deploy.local import state
from deploy.local.runner import State
from deploy.local.servers import PORTS
from deploy.local.state import Phase, ProcessState, StackState

OURS = ("up", "down", "status", "logs", "kill", "doctor", "env", "exporter", "metrics")


@pytest.fixture
def home(tmp_path: Path) -> homes.Home:
    place = homes.at(tmp_path / "stack")
    homes.create(place)
    return place


def make_process(name: str, slot: int | None) -> ProcessState:
    label = name if slot is None else f"{name}-{slot}"
    return ProcessState(label, name, slot, State.READY, pid=1, started_at=1.0, restarts=0)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_help_lists_every_command_with_its_line() -> None:
    code, output = run("--help")
    assert code == 0
    for name, line in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", output, re.MULTILINE), name


def test_help_loads_no_subcommand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "load", lambda name: pytest.fail(f"{name} was loaded"))
    assert run("--help")[0] == 0


@pytest.mark.parametrize("name", OURS)
def test_every_command_teaches_by_an_example(name: str) -> None:
    code, output = run(name, "--help")
    assert code == 0
    assert re.search(rf"^Example: .*\n(  .*\n)*  .*pipeline {name}", output, re.MULTILINE)


def test_mistyped_command_gets_a_suggestion() -> None:
    code, output = run("statsu")
    assert code == 2
    assert "Did you mean 'status'" in output


def test_command_that_is_not_in_the_checkout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr(importlib, "import_module", absent)
    code, output = run("demo")
    assert code == ExitCode.CONFIG
    assert "`pipeline demo` is not in this checkout" in output


def test_missing_package_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_module: str) -> None:
        raise ModuleNotFoundError(name="psutil")

    monkeypatch.setattr(importlib, "import_module", lacking)
    code, output = run("up")
    assert code == ExitCode.CONFIG
    assert "psutil" in output
    assert "make setup" in output


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (PipelineError("no tea", cure="boil water"), 70, "error: no tea\n  way out: boil water\n"),
        (OSError(28, "No space left on device"), 70, "No space left on device"),
        (KeyError("odd"), 70, "internal error, KeyError"),
    ],
)
def test_error_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(main, "load", fail)
    result = run("up")
    assert result[0] == code
    assert said in result[1]
    assert "Traceback" not in result[1]


@pytest.mark.parametrize("command", [("status",), ("kill", "inventory"), ("env",), ("down",), ("logs", "kafka")])
def test_command_without_a_stack_says_so(tmp_path: Path, command: tuple[str, ...]) -> None:
    code, output = run(*command, "--home", str(tmp_path / "nowhere"))
    assert code == ExitCode.CONFIG
    assert "way out:" in output


def test_home_comes_from_the_environment(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status"], env={"PIPELINE_HOME": str(tmp_path / "elsewhere")})
    assert "elsewhere" in result.output


def test_variables_of_a_stack_lead_to_its_api_too(home: homes.Home) -> None:
    home.ports.write_text(json.dumps(dict.fromkeys(PORTS, 1) | {"api": 8085}), encoding="utf-8")
    code, output = run("env", "--home", str(home.root))
    assert code == 0
    assert "export PIPELINE_API_URL=http://127.0.0.1:8085" in output.splitlines()
    assert f"export PIPELINE_HOME={home.root}" in output.splitlines()


def test_kill_asks_for_the_slot_when_there_are_several(home: homes.Home) -> None:
    processes = (make_process("inventory", 0), make_process("inventory", 1), make_process("kafka", None))
    state.write(home, StackState(Phase.READY, 1, 1.0, {}, processes))
    find = kill._find
    assert find(home, "inventory", 1).label == "inventory-1"
    assert find(home, "inventory-0", None).label == "inventory-0"
    assert find(home, "kafka", None).label == "kafka"
    with pytest.raises(PipelineError) as several:
        find(home, "inventory", None)
    assert "--slot" in several.value.cure
    with pytest.raises(PipelineError) as unknown:
        find(home, "inventory", 7)
    assert "inventory-0, inventory-1, kafka" in unknown.value.cure


def test_kill_never_signals_a_recycled_pid(home: homes.Home) -> None:
    state.write(home, StackState(Phase.READY, 1, 1.0, {}, (make_process("kafka", None),)))
    code, output = run("kill", "kafka", "--home", str(home.root))
    assert code == 70
    assert "does not run now" in output


def test_logs_of_a_service_are_those_of_all_its_slots(home: homes.Home) -> None:
    for name in ("inventory-0", "inventory-1", "order-api"):
        home.log(name).write_text(f"{name} says\n", encoding="utf-8")
    assert [path.stem for path in logs._logs_of(home, "inventory")] == ["inventory-0", "inventory-1"]
    assert [path.stem for path in logs._logs_of(home, "inventory-1")] == ["inventory-1"]
    assert run("logs", "order-api", "--home", str(home.root)) == (0, "order-api says\n")
    assert run("logs", "inventory", "--home", str(home.root))[1].splitlines()[0] == "inventory-0 | inventory-0 says"


def test_interpreter_needs_no_heavy_package_for_the_help() -> None:
    """What makes `pipeline --help` slow is what it imports; rich and the clients come with the commands."""
    code = "import sys, deploy.cli.main; print(sorted({'rich', 'psycopg', 'jgo', 'requests'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_typer_is_told_to_stay_plain() -> None:
    assert isinstance(app, typer.Typer)
    assert app.rich_markup_mode is None


def test_lines_that_nobody_reads_any_more_end_nothing() -> None:
    """`up --detach | head` stopped the stack: the line after the last one that was read raised."""
    reading, writing = os.pipe()
    os.close(reading)
    told = "from deploy.cli.up import tell\nfor number in range(3): tell(str(number))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", told], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=20
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
