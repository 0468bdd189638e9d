"""Data that an earlier version wrote: today's takes them over, with every order in them.

The earlier version is the newest release's tag before this commit, or what `--data-of` names. It runs from its own
source in today's environment.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import home as homes
from deploy.local.stack import state
from tests.api import Api
from tests.records import wait_for

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 300
OUTCOME_SECONDS = 60
pytestmark = pytest.mark.xdist_group("stacks")  # whole stacks of their own: one at a time


def git(*arguments: str) -> bytes:
    program = shutil.which("git") or "git"
    return subprocess.run((program, "-C", str(ROOT), *arguments), capture_output=True, check=True, timeout=60).stdout


@pytest.fixture
def former(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """Return a folder with the source of the earlier version."""
    revision = pytestconfig.getoption("--data-of")
    if not revision:
        tags = git("tag", "--merged", "HEAD~1", "--list", "v*", "--sort=-version:refname").decode().split()
        if not tags:
            pytest.skip("there is no release yet; --data-of COMMIT names another version")
        revision = tags[0]
    folder = tmp_path / "former"
    with tarfile.open(fileobj=io.BytesIO(git("archive", revision))) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "stack"
    yield folder
    pipeline(ROOT, "down", "--volumes", home=folder)


def pipeline(source: Path, command: str, *arguments: str, home: Path) -> str:
    """Run a command of the version whose source lies there."""
    ran = subprocess.run(
        (sys.executable, "-m", "deploy.cli.main", command, "--home", str(home), *arguments),
        cwd=source,
        env=os.environ | {"PYTHONPATH": str(source), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def api(home: Path) -> Api:
    running = state.current(homes.at(home))
    assert running is not None
    return Api(f"http://127.0.0.1:{running.ports['api']}")


def statuses(home: Path, orders: list[str]) -> dict[str, str]:
    return {order: str(api(home).get(f"/orders/{order}").json.get("status", "pending")) for order in orders}


def placed(home: Path, user: str) -> str:
    """Place an order and wait for its outcome; return its id."""
    order = str(api(home).place(user).json["order_id"])
    wait_for(lambda: statuses(home, [order])[order] != "pending", seconds=OUTCOME_SECONDS, what="the outcome")
    return order


def test_data_of_the_version_before_are_taken_over_with_every_order(former: Path, home: Path) -> None:
    pipeline(former, "up", "--detach", home=home)
    earlier = [placed(home, f"user-{number}") for number in range(5)]
    before = statuses(home, earlier)
    pipeline(former, "down", home=home)

    pipeline(ROOT, "up", "--detach", home=home)
    assert statuses(home, earlier) == before
    placed(home, "user-0")
    pipeline(ROOT, "verify", home=home)
