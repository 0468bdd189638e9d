"""Look at the stock while a run goes on: one snapshot a second, kept as one JSON line each."""

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from audit.config import CheckerSettings
from audit.errors import StoreDownError
from audit.readers.tables import TableReader
from audit.terms import Stock
from audit.testimony import Snapshot

EVERY_SECONDS = 1.0


class StockSampler:
    """Takes snapshots in a thread of its own from entering to leaving, and appends them to `path`.

    A database that is away is looked at again a second later; `missed` counts these.
    """

    def __init__(self, settings: CheckerSettings, path: Path, *, every_seconds: float = EVERY_SECONDS) -> None:
        self.taken = 0
        self.missed = 0
        self._tables = TableReader(settings)
        self._path = path
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stock-sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._sample()
            if self._stop.wait(self._every_seconds):
                return

    def _sample(self) -> None:
        try:
            stock = self._tables.stock()
        except StoreDownError:
            self.missed += 1
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(snapshot_line(Snapshot(time.monotonic(), stock)))
        self.taken += 1


def snapshot_line(snapshot: Snapshot) -> str:
    """Return the line of a snapshot."""
    return json.dumps({"t": snapshot.time, "stock": snapshot.stock}, separators=(",", ":")) + "\n"


def read_snapshots(paths: Sequence[Path]) -> tuple[Snapshot, ...]:
    """Return the snapshots, in the order in which they were taken; half of one that is being written is none yet."""
    lines = (line for path in paths for line in path.read_text(encoding="utf-8").splitlines(keepends=True))
    taken = (json.loads(line) for line in lines if line.endswith("\n"))
    return tuple(Snapshot(each["t"], tuple(Stock(*row) for row in each["stock"])) for each in taken)
