"""Keep the processes' log files bounded, and read their ends."""

import shutil
import time
from collections import deque
from collections.abc import Iterator
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


def follow(path: Path) -> Iterator[str]:
    """Yield what is appended from now on, line by line, for ever; start over when the file was emptied."""
    offset = size(path)
    rest = ""
    while True:
        if size(path) < offset:
            offset = 0
        with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace", newline="") as log:
            log.seek(offset)
            text = rest + log.read()
            offset = log.tell()
            *whole, rest = text.split("\n")
            yield from whole
        time.sleep(_POLL_SECONDS)
