"""Write what a user opens or pastes to see the running stack at work: real ports, real paths. Pure."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.home import DEFAULT_HOME, Home

ORDER = '{"user_id":"ada","lines":[{"sku":"tea","quantity":2},{"sku":"mug","quantity":1}]}'
QUERY = "select * from reservations order by decided_at desc limit 5"


def pipeline_command(*, executable: str = sys.executable, folder: Path | None = None) -> str:
    """Return how to call `pipeline` from the folder: the path beside the interpreter, relative if that is shorter."""
    program = Path(executable).parent / "pipeline"
    with_folder = Path(os.path.relpath(program, folder or Path.cwd()))
    return shlex.quote(str(program if ".." in with_folder.parts else with_folder))


def home_option(home: Home, *, folder: Path | None = None) -> str:
    """Return the option that other commands need to find this stack; empty for the default one."""
    default = (folder or Path.cwd()) / DEFAULT_HOME
    return "" if home.root == default else f" --home {shlex.quote(str(home.root))}"


def page_lines(ports: Mapping[str, int]) -> tuple[str, ...]:
    """Return the pages to open in a browser, those alone that there are."""
    pages = (
        ("the API", "api", "/docs"),
        ("the topics", "api", "/docs/events"),
        ("Prometheus", "prometheus", "/"),
    )
    return tuple(f"{what:<11} http://localhost:{ports[port]}{path}" for what, port, path in pages if port in ports)


def paste_lines(ports: Mapping[str, int], home: Home, *, command: str) -> tuple[str, ...]:
    """Return the lines, in the order of a first visit."""
    api, option = f"localhost:{ports.get('api')}", home_option(home)
    return (
        f"curl -i {api}/orders -H 'Content-Type: application/json' -H 'Idempotency-Key: 7f1c' \\",
        f"     -d '{ORDER}'",
        f"curl -s {api}/orders/<id>",
        f"{command} psql{option} -c '{QUERY}'",
        f"{command} order{option} <id>",
        f"{command} metrics{option} --follow",
        f"{command} kill{option} inventory --slot 0",
        f"{command} verify{option}",
    )
