"""A service of a user's own in a whole stack: `pipeline up --service FOLDER` runs it beside the others.

The service is as small as one can be: it notes in its own schema that it started, and serves. Then it is killed, and
the stack is started without it on the same data.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.folder import FILE

pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time

SECONDS_MAX = 60.0
ROW = """
name = "echo"
run = ["echo"]
inputs = ["orders.created"]
slots = 2
[outputs]
"echo.done" = 3
[settings]
ECHO_WORD = "hello"
"""
ECHO = """
import http.server, os, pathlib, psycopg
url = os.environ["PIPELINE_POSTGRES_URL"]
password = pathlib.Path(os.environ["PIPELINE_POSTGRES_PASSWORD_FILE"]).read_text().strip()
with psycopg.connect(url, password=password) as connection:
    connection.execute("SELECT pg_advisory_xact_lock(1)")
    connection.execute("CREATE TABLE IF NOT EXISTS starts (slot text, word text)")
    connection.execute("INSERT INTO starts VALUES (%s, %s)", (os.environ["PIPELINE_SLOT"], os.environ["ECHO_WORD"]))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
print("echo serves", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PIPELINE_HEALTH_PORT"])), Handler).serve_forever()
"""


def pipeline(home: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "deploy.cli.main", command, *arguments, "--home", str(home))
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def succeed(home: Path, command: str, *arguments: str) -> str:
    done = pipeline(home, command, *arguments)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def processes(home: Path) -> dict[str, dict[str, Any]]:
    return {each["label"]: each for each in json.loads(pipeline(home, "status", "--json").stdout)["processes"]}


def starts(home: Path) -> list[str]:
    """Return slot and word of every start, as those who may only look see them."""
    query = "copy (select slot, word from echo.starts order by 1) to stdout"
    return succeed(home, "psql", "-c", query).splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("services") / "echo service"
    made.mkdir()
    (made / FILE).write_text(ROW)
    (made / "echo.py").write_text(ECHO)
    return made


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("added") / "stack"
    try:
        succeed(place, "up", "--detach", "--inventory", "1", "--service", str(folder))
        yield place
    finally:
        pipeline(place, "down", "--volumes")
    assert not place.exists()


def test_it_runs_beside_the_others_and_has_what_its_row_says(home: Path) -> None:
    running = processes(home)
    assert running["echo-0"]["state"] == running["echo-1"]["state"] == running["inventory-0"]["state"] == "ready"
    assert running["echo-0"]["port"] != running["echo-1"]["port"]
    assert sorted(set(starts(home))) == ["0\thello", "1\thello"]
    listed = {each["topic"]: each for each in json.loads(succeed(home, "topics", "list", "--json"))}
    assert listed["echo.done"]["partitions"] == 3
    assert listed["orders.created"]["readers"][-1] == "echo"
    assert "orders.created.echo.dlq" in listed
    assert "echo serves" in succeed(home, "logs", "echo-1")


def test_killed_it_is_started_again_and_the_books_stay_proved(home: Path) -> None:
    before = processes(home)["echo-0"]
    succeed(home, "kill", "echo", "--slot", "0")
    wait_for(lambda: processes(home)["echo-0"]["restarts"] == before["restarts"] + 1)
    wait_for(lambda: processes(home)["echo-0"]["state"] == "ready")
    assert processes(home)["echo-0"]["pid"] != before["pid"]
    assert "0 lost, 0 doubled, 0 oversold" in succeed(home, "verify")


def test_provisioning_by_hand_covers_what_runs(home: Path) -> None:
    done = {each["step"]: each for each in json.loads(succeed(home, "provision", "--json"))}
    assert done["services"]["changed"] == []
    assert done["services"]["standing"] == "1 added"


def test_start_without_it_leaves_its_data_and_runs_the_rest(home: Path) -> None:
    """Last: the stack is started again."""
    before = starts(home)
    succeed(home, "down")
    succeed(home, "up", "--detach", "--inventory", "1")
    running = processes(home)
    assert not [label for label in running if label.startswith("echo")]
    assert running["inventory-0"]["state"] == "ready"
    assert starts(home) == before
    refused = pipeline(home, "kill", "echo")
    assert refused.returncode == 2
    assert "one of: " in refused.stderr
