import importlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from deploy import VERSION
from deploy.cli import kill, log_lines, logs, main
from deploy.cli.main import COMMANDS, app
from deploy.local import home as homes
from deploy.local.stack import state
from deploy.local.stack.servers import PORTS
from deploy.local.stack.state import Phase, ProcessState, StackState
from deploy.local.supervise.runner import State
from onceloop.errors import ExitCode, ReportedError

ORDER = "0198c5d2-7c5e-7f10-8a30-5b1f6f0d9c11"
OURS = ("up", "down", "status", "logs", "kill", "doctor", "env", "exporter", "metrics")


@pytest.fixture
def home(tmp_path: Path) -> homes.Home:
    place = homes.at(tmp_path / "stack")
    homes.create(place)
    return place


def make_process(name: str, slot: int | None) -> ProcessState:
    label = name if slot is None else f"{name}-{slot}"
    return ProcessState(label, name, slot, State.READY, pid=1, started_at=1.0, restarts=0)


def stopped(home: homes.Home) -> None:
    """Have a stack in the folder that ran, and was stopped."""
    ports = dict.fromkeys(PORTS, 1) | {"api": 1}
    home.ports.write_text(json.dumps(ports), encoding="utf-8")
    state.write(home, StackState(Phase.STOPPED, 2**30, 1.0, ports, (make_process("kafka", None),)))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_help_lists_every_command_with_its_line() -> None:
    code, output = run("--help")
    assert code == 0
    for name, line in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", output, re.MULTILINE), name


@pytest.mark.parametrize("group", ["", "bench", "chaos", "offsets", "schemas", "stock", "topics"])
def test_help_cuts_no_line_in_a_terminal_of_80_columns(group: str) -> None:
    """Red before: four groups ended a command's line in the middle of the sentence."""
    assert not re.search(r"^  \w+ .*\.\.\.$", run(*group.split(), "--help")[1], re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_no_command_is_wider_than_80_columns(name: str) -> None:
    output = run(name, "--help")[1]
    assert [line for line in output.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("code", ExitCode)
def test_help_says_what_each_exit_code_means(code: ExitCode) -> None:
    assert re.search(rf"^ +{int(code)}  +\w", run("--help")[1], re.MULTILINE)


def test_version_is_said_and_is_that_of_the_image() -> None:
    code, output = run("--version")
    assert code == 0
    assert output.startswith(f"pipeline {VERSION}, Python 3.")
    dockerfile = (Path(main.__file__).parents[1] / "images" / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG VERSION={VERSION}\n" in dockerfile


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pipeline st", {"status", "stock"}),
        ("pipeline stock s", {"set"}),
        ("pipeline kill --s", {"--slot", "--signal"}),
        ("pipeline up --with ", {"connect", "monitoring"}),
        ("pipeline kill inv", {"inventory", "inventory-0", "inventory-1"}),
        ("pipeline logs k", {"kafka"}),
    ],
)
def test_shell_completes_commands_options_and_values(home: homes.Home, typed: str, offered: set[str]) -> None:
    """Each subcommand is loaded for its own words alone."""
    ourselves = psutil.Process()
    processes = tuple(replace(make_process("inventory", slot), pid=1) for slot in range(2))
    state.write(home, StackState(Phase.READY, ourselves.pid, ourselves.create_time(), {}, processes))
    home.log("kafka").touch()
    home.log("postgres").touch()
    asked = {"_PIPELINE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    ran = subprocess.run(
        [sys.executable, "-c", "from deploy.cli.main import app; app(prog_name='pipeline')"],
        env={**os.environ, **asked, "PIPELINE_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(ran.stdout.split()) == offered


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
        (ReportedError("no tea", cure="boil water"), 70, "error: no tea\n  way out: boil water\n"),
        (OSError(28, "No space left on device"), 70, "No space left on device"),
        (KeyError("odd"), 70, "internal error, KeyError"),
    ],
)
def test_error_is_reported_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
) -> None:
    def fail(_name: str) -> None:
        raise error

    monkeypatch.setattr(main, "load", fail)
    result = run("up")
    assert result[0] == code
    assert said in result[1]
    assert "Traceback" not in result[1]


QUESTIONS = (
    *(
        ("verify",),
        ("order", ORDER),
        ("stock", "list"),
        ("psql",),
        ("topics", "list"),
        ("offsets", "repair", "inventory"),
    ),
    *(("metrics",), ("provision",), ("exporter",)),
)


@pytest.mark.parametrize(
    "command", [("status",), ("kill", "inventory"), ("env",), ("down",), ("logs", "kafka"), *QUESTIONS]
)
def test_command_without_a_stack_says_so(tmp_path: Path, command: tuple[str, ...]) -> None:
    code, output = run(*command, "--home", str(tmp_path / "nowhere"))
    assert code == ExitCode.CONFIG
    assert "way out:" in output


@pytest.mark.parametrize("command", QUESTIONS)
def test_command_on_a_stopped_stack_says_that_none_runs(home: homes.Home, command: tuple[str, ...]) -> None:
    """`verify` after `down` blamed PostgreSQL, which had been asked to stop."""
    stopped(home)
    code, output = run(*command, "--home", str(home.root))
    assert code == ExitCode.UNAVAILABLE
    assert f"error: the stack in {home.root} is not running (stopped)" in output
    assert f"way out: start it: pipeline up --home {home.root}" in output


@pytest.mark.parametrize(
    "typed",
    [
        ("statsu",),
        ("status", "--jsn"),
        ("up", "--inventory", "0"),
        ("up", "--with", "conect"),
        ("kill", "inventroy"),
        ("kill", "kafka", "--slot", "3"),
        ("kill", "inventory"),
        ("kill", "kafka", "--signal", "HUP"),
        ("logs", "inventroy"),
        ("env", "--role", "raeder"),
        ("stock", "set", "tea", "-5"),
        ("stock", "set", "tea", "many"),
        ("stock", "add", "tea", "-1000000001"),
        ("order", "7f1c"),
        ("schemas", "diff", "OrderCraeted"),
        ("schemas", "diff", "OrderCreated", "1", "99"),
        ("schemas", "freeze", "OrderCreated", "--field", "currency"),
        ("topics", "grow", "orders.craeted", "--partitions", "12"),
        ("offsets", "repair", "inventroy"),
        ("chaos", "matrix", "--point", "inventory:nowhere"),
        ("chaos", "replay", "nemesis-none"),
        ("chaos", "mutants", "--only", "none"),
    ],
    ids=" ".join,
)
def test_whatever_names_nothing_that_there_is_ends_with_the_same_code(
    monkeypatch: pytest.MonkeyPatch, home: homes.Home, typed: tuple[str, ...]
) -> None:
    """Like mistakes ended with 1, 2 or 78. No server is started for one."""
    monkeypatch.setattr("deploy.cli.chaos.own_servers", lambda *_, **__: pytest.fail("servers start"))
    processes = (make_process("inventory", 0), make_process("inventory", 1), make_process("kafka", None))
    ourselves = psutil.Process()
    ports = dict.fromkeys(PORTS, 1) | {"api": 1}
    state.write(home, StackState(Phase.READY, ourselves.pid, ourselves.create_time(), ports, processes))
    home.ports.write_text(json.dumps(ports), encoding="utf-8")
    result = CliRunner().invoke(app, list(typed), env={"PIPELINE_HOME": str(home.root)})
    assert result.exit_code == ExitCode.USAGE, result.output
    assert "internal error" not in result.output


def test_negative_stock_is_refused_by_what_is_wrong_with_it() -> None:
    """It said: No such option: -5."""
    code, output = run("stock", "set", "tea", "-5")
    assert code == ExitCode.USAGE
    assert "Invalid value for 'N': Input should be greater than or equal to 0" in output


def test_home_comes_from_the_environment(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status"], env={"PIPELINE_HOME": str(tmp_path / "elsewhere")})
    assert "elsewhere" in result.output


def test_variables_of_a_stack_lead_to_its_api_too(home: homes.Home) -> None:
    home.ports.write_text(json.dumps(dict.fromkeys(PORTS, 1) | {"api": 8085}), encoding="utf-8")
    code, output = run("env", "--home", str(home.root))
    assert code == 0
    assert "export PIPELINE_API_URL=http://127.0.0.1:8085" in output.splitlines()
    assert f"export PIPELINE_HOME={home.root}" in output.splitlines()


def test_variable_that_the_output_s_encoding_lacks_is_refused_and_its_json_is_not(tmp_path: Path) -> None:
    """Red before: the shell took an escape for the folder's name, or the command ended as an internal error."""
    place = homes.at(tmp_path / "stück")
    homes.create(place)
    place.ports.write_text(json.dumps(dict.fromkeys(PORTS, 1) | {"api": 8085}), encoding="utf-8")
    ascii_only = CliRunner(charset="ascii")
    refused = ascii_only.invoke(app, ["env", "--home", str(place.root)])
    assert refused.exit_code == ExitCode.CONFIG, refused.output
    assert "cannot be written in ascii" in refused.output
    assert "export" not in refused.output
    shown = ascii_only.invoke(app, ["env", "--json", "--home", str(place.root)])
    assert shown.exit_code == 0
    assert json.loads(shown.output)["PIPELINE_HOME"] == str(place.root)


def test_kill_asks_for_the_slot_when_there_are_several(home: homes.Home) -> None:
    processes = (make_process("inventory", 0), make_process("inventory", 1), make_process("kafka", None))
    state.write(home, StackState(Phase.READY, 1, 1.0, {}, processes))
    find = kill._find
    assert find(home, "inventory", 1).label == "inventory-1"
    assert find(home, "inventory-0", None).label == "inventory-0"
    assert find(home, "kafka", None).label == "kafka"
    with pytest.raises(ReportedError) as several:
        find(home, "inventory", None)
    assert "--slot" in several.value.cure
    with pytest.raises(ReportedError) as unknown:
        find(home, "inventory", 7)
    assert "inventory-0, inventory-1, kafka" in unknown.value.cure


def test_kill_never_signals_a_recycled_pid(home: homes.Home) -> None:
    state.write(home, StackState(Phase.READY, 1, 1.0, {}, (make_process("kafka", None),)))
    code, output = run("kill", "kafka", "--home", str(home.root))
    assert code == ExitCode.UNAVAILABLE
    assert "does not run now" in output


def test_kill_reports_to_a_script_what_it_did(home: homes.Home) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        began = psutil.Process(victim.pid).create_time()
        process = replace(make_process("inventory", 0), pid=victim.pid, started_at=began)
        ourselves = psutil.Process()
        state.write(home, StackState(Phase.READY, ourselves.pid, ourselves.create_time(), {}, (process,)))
        code, output = run("kill", "inventory", "--json", "--home", str(home.root))
    assert (code, victim.returncode) == (0, -signal.SIGKILL)
    assert json.loads(output) == {"process": "inventory-0", "pid": victim.pid, "signal": "SIGKILL"}


def test_logs_are_passed_to_a_script_as_one_object_per_line(home: homes.Home) -> None:
    home.log("inventory-0").write_text('{"event": "batch.committed", "records": 3}\n{"odd": 1}\n', encoding="utf-8")
    home.log("inventory-1").write_text("Traceback\n", encoding="utf-8")
    code, output = run("logs", "inventory", "--json", "--home", str(home.root))
    assert code == 0
    assert [json.loads(line) for line in output.splitlines()] == [
        {"process": "inventory-0", "event": "batch.committed", "records": 3},
        {"process": "inventory-0", "line": '{"odd": 1}'},
        {"process": "inventory-1", "line": "Traceback"},
    ]


def test_log_line_is_set_out_for_a_person() -> None:
    line = (
        '{"records": 3, "event": "batch.committed", "service": "inventory", "slot": 0, "level": "info",'
        ' "timestamp": "2026-11-30T12:03:04.123456Z"}'
    )
    assert log_lines.readable(line, colors=False) == "12:03:04.123 [info     ] batch.committed records=3"
    assert log_lines.readable("[2026-11-30] INFO ready", colors=False) == "[2026-11-30] INFO ready"
    assert "\x1b[" in log_lines.readable(line, colors=True)


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


def test_typer_is_set_to_stay_plain() -> None:
    assert isinstance(app, typer.Typer)
    assert app.rich_markup_mode is None


def test_lines_that_have_lost_their_reader_end_nothing() -> None:
    """`up --detach | head` stopped the stack: the line after the last one that was read raised."""
    reading, writing = os.pipe()
    os.close(reading)
    program = "from deploy.cli.up import show_line\nfor number in range(3): show_line(str(number))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=20
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
