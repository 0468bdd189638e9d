"""Every command that draws, under every encoding that a terminal may have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import home as homes

ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "utf-8": {"PYTHONIOENCODING": "utf-8"},
    "C": {"LC_ALL": "C"},
    "C, and Python takes it at its word": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
PRELUDE = """
import io, sys
from dataclasses import dataclass
from rich.console import Console
from deploy.cli.terminal import take_any_text
take_any_text()
console = Console(width=110)
"""
DRAWINGS = {
    "metrics": """
from common.events.volume import MinuteVolume
from deploy.cli.minutes import chart
console.print(chart([MinuteVolume(0, 9, 5, 4, 9, 0, 1), MinuteVolume(60000, 1, 1, 0, 1, 0, 1)], now_ms=0, width=99))
""",
    "up, and its progress": """
from rich.progress import BarColumn, Progress
bar = Progress(BarColumn(), console=console)
bar.add_task("", total=10, completed=5)
console.print(bar)
""",
    "verify, demo and all that wait": """
from rich.spinner import SPINNERS
from rich.text import Text
console.print(*(frame for frame in SPINNERS["dots"]["frames"]))
""",
    "a table that is cut": """
from rich.table import Table
table = Table(box=None)
table.add_column(no_wrap=True, max_width=5)
table.add_row("something long")
console.print(table)
""",
    "stock, logs and all that print names": "print('caf\\u00e9', '\\u8336', '\\ud83d\\ude00')",
}


def environment(encoding: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LC_", "LANG"))}
    return {**kept, **ENCODINGS[encoding]}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_drawing_fits_what_the_terminal_takes(encoding: str, drawing: str) -> None:
    code = PRELUDE + DRAWINGS[drawing]
    ran = subprocess.run([sys.executable, "-c", code], env=environment(encoding), capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    if encoding == "ascii":
        ran.stdout.decode("ascii")


def test_bars_are_drawn_in_ascii() -> None:
    code = PRELUDE + DRAWINGS["metrics"]
    ran = subprocess.run([sys.executable, "-c", code], env=environment("ascii"), capture_output=True, check=True)
    rows = [line for line in ran.stdout.decode("ascii").splitlines() if line.startswith("00:0")]
    bars = [row.split()[-1] for row in rows[:2]]
    assert [bar.strip("#") for bar in bars] == ["", ""]
    assert len(bars[0]) > len(bars[1]) > 0


def test_name_that_the_terminal_lacks_is_distinguished_from_others() -> None:
    code = PRELUDE + DRAWINGS["stock, logs and all that print names"]
    ran = subprocess.run([sys.executable, "-c", code], env=environment("latin-1"), capture_output=True, check=True)
    assert ran.stdout == b"caf\xe9 \\u8336 \\ud83d\\ude00\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_command_prints_paths_and_logs_of_any_script(tmp_path: Path, encoding: str) -> None:
    home = homes.at(tmp_path / "stack")
    homes.create(home)
    home.log("kafka").write_text("Größe 茶 ✓\n", encoding="utf-8")
    for command in (("logs", "kafka", "--home", str(home.root)), ("status", "--home", str(tmp_path / "Bücher"))):
        ran = subprocess.run(
            [sys.executable, "-m", "deploy.cli.main", *command],
            env=environment(encoding),
            capture_output=True,
            check=False,
        )
        assert b"internal error" not in ran.stderr, ran.stderr
        assert b"Traceback" not in ran.stderr, ran.stderr
