"""What a producer of the load wrote straight onto `orders.created`: one JSON line per record, once its end is known."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from audit.testimony import Kind, Written


class WrittenWriter:
    """Appends to the file; many threads may."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, record: Written) -> None:
        """Note one record."""
        with self._lock:
            self._file.write(json.dumps((record.kind.value, *record[1:]), separators=(",", ":")) + "\n")


def read_written(paths: Sequence[Path]) -> tuple[Written, ...]:
    """Return the records, in the order in which their ends were known."""
    return tuple(
        Written(Kind(kind), *rest)
        for path in paths
        for kind, *rest in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    )
