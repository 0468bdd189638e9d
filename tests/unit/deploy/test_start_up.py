"""What a command imports decides how soon it answers: one that asks a question answers before it bores."""

import subprocess
import sys

import pytest

HEAVY = ("alembic", "confluent_kafka", "fastavro", "flask", "jgo", "pydantic", "requests", "rich", "sqlalchemy")
NEEDED = {
    "down": (),
    "env": (),
    "kill": (),
    "logs": (),
    "doctor": (),
    "status": ("rich",),
    "stock": ("pydantic",),
    "psql": ("pydantic",),
    "order": ("confluent_kafka", "fastavro", "pydantic", "rich"),
}


@pytest.mark.parametrize("command", NEEDED)
def test_quick_command_imports_no_more_than_it_needs(command: str) -> None:
    code = f"import sys, deploy.cli.{command}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert tuple(ran.stdout.split()) == NEEDED[command]
