"""The API keeps what `/openapi.json` says: Schemathesis makes thousands of requests from it, right ones and wrong ones.

Asked of each answer: no server error; status, content type, headers and body as described; a request that fits is
served (tests/acceptance.py), one that does not is refused. `tests/schemathesis.toml` has the settings.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.api import Api, running_api, start_projection
from tests.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "tests" / "schemathesis.toml"
SEED = 20_251_123
CASES_MIN = 5_000
EXAMPLES = {"positive": 840, "negative": 840}
"""Per operation, of which three take parameters; one process for each mode, side by side."""
SECONDS_MAX = 480
"""A guard against a hang, not a measure: beside the rest of the suite it takes some three minutes."""


@contextmanager
def examined(api: Api, mode: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run Schemathesis beside the block; it does not outlive it."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS), "run"]
    options = {
        "--mode": mode,
        "--seed": SEED,
        "--max-examples": EXAMPLES[mode],
        "--report": "json",
        "--report-json-path": f"{mode}.json",
    }
    argv = [
        *command,
        f"{api.url}/openapi.json",
        "--no-color",
        *(str(part) for pair in options.items() for part in pair),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # for the check of our own
    with subprocess.Popen(
        argv, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def report(process: "subprocess.Popen[str]", path: Path) -> dict[str, Any]:
    """Wait for the end and return what was found; what was printed names the requests."""
    output, _ = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, output[-20_000:]
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_api_keeps_its_description(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.set_stock({"tea": 50})  # both outcomes are shown, and orders of unknown SKUs
    inventory = pipeline.start("inventory_service", role="inventory_rw")
    projection = start_projection(pipeline)
    with running_api(pipeline) as (api, process):
        inventory.wait_ready()
        projection.wait_ready()
        with examined(api, "positive", tmp_path) as fitting, examined(api, "negative", tmp_path) as unfitting:
            reports = [
                report(fitting, tmp_path / "positive.json"),
                report(unfitting, tmp_path / "negative.json"),
            ]
        assert process.exit_code is None

    for found in reports:
        assert found["complete"], found
        assert (found["operations"]["tested"], found["operations"]["errored"]) == (5, 0), found
    cases = [found["test_cases"]["generated"] for found in reports]
    assert sum(cases) >= CASES_MIN, cases
