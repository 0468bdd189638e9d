"""Check compose.yaml against the Compose specification's JSON schema, where no engine can be started.

The schema comes out of Compose's own Go module: `go mod download` verifies it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml  # type: ignore[import-untyped] # comes with schemathesis, without types

from onceloop.errors import ConfigError, ExitCode, ReportedError

FILE = Path(__file__).parents[2] / "compose.yaml"
MODULE = "github.com/compose-spec/compose-go/v2@v2.9.1"


def schema() -> Any:
    """Return the schema. Raises ReportedError if it cannot be had."""
    try:
        argv = ["go", "mod", "download", "-json", MODULE]
        done = subprocess.run(argv, cwd="/", capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ReportedError(f"the Compose schema cannot be had: {error}", cure="install Go") from error
    folder = json.loads(done.stdout)["Dir"]
    return json.loads(Path(folder, "schema", "compose-spec.json").read_text(encoding="utf-8"))


def check() -> int:
    """Return how many services were checked. Raises ConfigError that names everything the schema forbids."""
    found = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    errors = [
        f"compose.yaml {'.'.join(map(str, each.instance_path))}: {each.message}"
        for each in jsonschema_rs.validator_for(schema()).iter_errors(found)
    ]
    if errors:
        raise ConfigError("\n".join(errors))
    return len(found["services"])


if __name__ == "__main__":
    try:
        print(f"compose.yaml: {check()} services, as the Compose specification has them")
    except ReportedError as error:
        sys.stderr.write(f"error: {error.message}\n")
        sys.exit(error.exit_code or ExitCode.SOFTWARE)
