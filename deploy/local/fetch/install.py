"""Install a hashed lock into the environment of this interpreter, and show how far it has come.

    .venv/bin/python -m deploy.local.fetch.install requirements-local.lock

The standard library alone: nothing else is there yet. pip does the work, so that a company's mirror, proxy and
certificates count as everywhere else.
"""

import io
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color", "install")
_OPTIONS = (
    "--require-hashes",
    "--no-deps",  # the lock is whole: asking each package what it needs only takes time
    "--progress-bar=off",
)
_PROJECTS = ("--quiet", "--no-deps", "--no-build-isolation", "--editable", ".", "--editable", "onceloop")
_PACKAGE = re.compile(r"^[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==", re.MULTILINE)
_TAKEN_UP = re.compile(r"^(?:Collecting|Requirement already satisfied:|Ignoring) (?P<name>[\w.-]+)")
_FETCHED = re.compile(r"^ +(?:Downloading|Using cached) (?P<name>[\w.]+)-.* \((?P<size>[\d.]+ [kM]B)\)")
_LAST_LINES = 15
_STEPS = 10
"""Lines that are printed on the way where no terminal shows them one over the other."""


class Progress:
    """Follows what pip says. It prints a line per package in a terminal, else one per tenth."""

    def __init__(self, packages: int, *, terminal: bool, write: Callable[[str], object]) -> None:
        self._packages, self._terminal, self._write = packages, terminal, write
        self._taken_up = self._shown = 0

    def note(self, line: str) -> None:
        """Take in a line of pip's."""
        if (found := _TAKEN_UP.match(line)) is not None:
            self._taken_up += 1
            self._show(found["name"])
        elif (found := _FETCHED.match(line)) is not None and self._terminal:
            self._show(f"{found['name']}, {found['size']}")
        elif line.startswith("Installing collected packages"):
            self._say(f"  unpacking {line.count(',') + 1} packages")

    def end(self) -> None:
        """Leave the terminal at the start of a line."""
        if self._terminal:
            self._write("\r\x1b[K")

    def _show(self, what: str) -> None:
        step = self._taken_up * _STEPS // self._packages
        if self._terminal or step > self._shown:
            self._shown = step
            self._say(f"  {min(self._taken_up, self._packages):>3} of {self._packages} packages: {what}")

    def _say(self, text: str) -> None:
        self._write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")


def options() -> tuple[str, ...]:
    """Return pip's options for a lock.

    Most of what it installs is never imported, so it is compiled when it is; but where Python is not to write bytecode
    (PYTHONDONTWRITEBYTECODE), every start of a process would compile it again, half a second each.
    """
    return _OPTIONS if sys.dont_write_bytecode else (*_OPTIONS, "--no-compile")


def packages_in(lock: str) -> int:
    """Return how many packages a lock file's text names, those for other platforms included."""
    return len(_PACKAGE.findall(lock))


def install(lock: Path) -> int:
    """Install what the lock names, then project and library; return pip's exit code. Prints why if it failed."""
    packages = packages_in(lock.read_text(encoding="utf-8"))
    sys.stdout.write(f"installing {packages} packages from {lock.name} into {sys.prefix}\n")
    progress = Progress(packages, terminal=sys.stdout.isatty(), write=_written)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    command = [sys.executable, *_PIP, *options(), "--requirement", str(lock)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    ) as pip:
        for line in pip.stdout or ():
            last.append(line)
            progress.note(line)
    progress.end()
    if pip.returncode:
        sys.stderr.write("".join(last))
        return pip.returncode
    return subprocess.run([sys.executable, *_PIP, *_PROJECTS], check=False).returncode


def _written(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    cast(io.TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")  # of the checkout's path, any character
    try:
        sys.exit(install(Path(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit("\nstopped; run the same command again")
