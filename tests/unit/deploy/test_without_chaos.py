"""Commands that a company runs beside its pipeline import nothing that breaks one."""

import subprocess
import sys

import pytest

IMPORTED = """
import sys
from deploy.cli.main import load
load(sys.argv[1])
print([name for name in sys.modules if name.partition(".")[0] == "chaos"])
"""


@pytest.mark.parametrize("command", ["verify", "order", "demo", "bench", "stock", "status", "up", "offsets", "rebuild"])
def test_command_imports_no_chaos(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED, command], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
