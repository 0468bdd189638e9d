"""The library as a stranger gets it: built, installed into an empty environment, run there."""

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "onceloop"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(each) for each in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and source distribution, the wheel built from the latter."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "--version", cwd=folder)
    build = "from hatchling.build import build_sdist; import sys; build_sdist(sys.argv[1])"
    run(sys.executable, "-P", "-c", build, folder, cwd=PROJECT)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as packed:
        packed.extractall(folder, filter="data")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run(*pip, folder / source.name.removesuffix(".tar.gz"), cwd=folder)
    return folder


def wheel_in(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def pulled(what: str, tmp_path: Path) -> set[str]:
    """Return what pip would install for it into an empty environment, dependencies included."""
    report = tmp_path / "report.json"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report)
    run(*pip, what, cwd=tmp_path)
    installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {each["metadata"]["name"].lower().replace("_", "-") for each in installed}


def test_wheel_holds_the_whole_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    listed = run("git", "ls-files", "--", "onceloop", cwd=ROOT).splitlines()
    modules = {name for name in listed if name.endswith((".py", "py.typed"))}
    assert shipped == modules


def test_library_pulls_the_kafka_client_alone_and_the_extra_psycopg(built: Path, tmp_path: Path) -> None:
    wheel = wheel_in(built)
    assert pulled(str(wheel), tmp_path) == {"onceloop", "confluent-kafka"}
    with_postgres = pulled(f"{wheel}[postgres]", tmp_path)
    assert with_postgres - {"typing-extensions"} == {"onceloop", "confluent-kafka", "psycopg", "psycopg-binary"}


def test_installed_library_runs_without_this_repository(built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel_in(built)}[postgres]", cwd=tmp_path)
    assert "init" in run(python, "-m", "onceloop.examples.ledger", "--help", cwd=tmp_path)
    assert "MODULE:APP" in run(tmp_path / "venv" / "bin" / "onceloop", "--help", cwd=tmp_path)
    names = "import onceloop; print([getattr(onceloop, name).__name__ for name in onceloop.__all__])"
    assert "'Once'" in run(python, "-c", names, cwd=tmp_path)


def test_library_without_an_extra_has_all_but_the_app(built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel_in(built), cwd=tmp_path)
    modules = "import onceloop.transactional, onceloop.plain; from onceloop import OutputRecord, KafkaConfig, Refused"
    run(python, "-c", modules, cwd=tmp_path)


LEAST = """
import inspect, re
from importlib.metadata import requires, version
from onceloop.postgres.bounded import BoundedConnection, psycopg
wanted = {re.search(r">=([0-9.]+)", each)[1] for each in requires("onceloop") if each.startswith("psycopg")}
assert wanted == {version("psycopg")}, (wanted, version("psycopg"))
assert "timeout" in inspect.signature(psycopg.Connection.wait).parameters
print(psycopg.errors._WaitTimeout.__name__)
"""


def test_oldest_driver_that_is_allowed_has_what_bounded_waits_need(built: Path, tmp_path: Path) -> None:
    """Red before: 3.2 was allowed, whose `wait` takes no time-out, so that no statement at all got through."""
    run(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    oldest = min(re.findall(r"psycopg\[binary\]>=([0-9.]+)", (PROJECT / "pyproject.toml").read_text(encoding="utf-8")))
    wanted = (f"{wheel_in(built)}[postgres]", f"psycopg=={oldest}")
    run(python, "-m", "pip", "install", "--quiet", *wanted, cwd=tmp_path)
    assert "_WaitTimeout" in run(python, "-c", LEAST, cwd=tmp_path)
