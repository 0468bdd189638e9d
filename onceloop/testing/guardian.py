"""Outlive the harness: when it is gone, however it went, kill every process that it had started.

A process under test gets the writing end of the guardian's pipe as its standard input, enlists itself there, and lets
go of it. The end of file, which is the harness's death, can so only be seen after every process that exists is listed.
Run as a file, with the standard library alone: it is up before the first process is.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress


class Guardian:
    """The harness's side. `pipe`: standard input of those that are to be enlisted."""

    def __init__(self) -> None:
        reading, self.pipe = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-S", __file__],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for pytest
        )
        os.close(reading)

    def strike_off(self, pid: int) -> None:
        """Take an ended process off the list, before its number is given to another one."""
        os.write(self.pipe, f"- {pid}\n".encode())

    def close(self) -> None:
        """Have it kill what is still listed, and wait for it."""
        os.close(self.pipe)
        self._process.wait()


def enlist() -> None:
    """Put this process on the list of the guardian whose pipe is its standard input, and let go of the pipe."""
    os.write(0, f"+ {os.getpid()}\n".encode())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def main() -> None:
    """Keep the list until the pipe ends, then kill what is on it."""
    listed: set[int] = set()
    for line in sys.stdin:
        sign, pid = line.split()
        (listed.add if sign == "+" else listed.discard)(int(pid))
    for each in listed:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


if __name__ == "__main__":
    main()
