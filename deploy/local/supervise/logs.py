"""Keep the processes' log files bounded, and read their ends."""

import shutil
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

SIZE_BYTES_MAX = 10_000_000
"""A log and its predecessor together stay below about twice this."""
_POLL_SECONDS = 0.2


def size(path: Path) -> int:
    """Return the file's size in bytes; 0 when there is none."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def bound(path: Path) -> None:
    """Move a log that grew too large aside, as `NAME.log.1`.

    It is copied and emptied, because the process keeps its file open; what it writes in that moment may be lost.
    """
    if size(path) <= SIZE_BYTES_MAX:
        return
    shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    with path.open("r+b") as log:
        log.truncate(0)


def lines_since(path: Path, offset: int) -> list[str]:
    """Return the lines that were written after the file had `offset` bytes."""
    with suppress(FileNotFoundError), path.open("rb") as log:
        log.seek(offset if offset <= size(path) else 0)
        return log.read().decode("utf-8", errors="replace").splitlines()
    return []


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last `count` lines."""
    with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as log:
        return [line.rstrip("\n") for line in deque(log, maxlen=count)]
    return []


def follow(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield what is appended to the files from now on, line by line, for ever."""
    tails = [Tail(path, offset=size(path)) for path in paths]
    while True:
        for tail in tails:
            for line in tail.new_lines():
                yield tail.path, line
        time.sleep(_POLL_SECONDS)


class Tail:
    """The end of one log. A file that was emptied is read from its start."""

    def __init__(self, path: Path, *, offset: int) -> None:
        self.path = path
        self._offset = offset
        self._rest = b""

    def new_lines(self) -> list[str]:
        """Return the lines that were finished since the last call."""
        if size(self.path) < self._offset:
            self._offset, self._rest = 0, b""
        with suppress(FileNotFoundError), self.path.open("rb") as log:
            log.seek(self._offset)
            text = self._rest + log.read()
            self._offset = log.tell()
            *whole, self._rest = text.split(b"\n")
            return [line.decode("utf-8", errors="replace") for line in whole]
        return []
