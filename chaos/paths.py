"""Which recovery paths were taken, counted from what the services logged. Pure but for reading the files."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FENCED, ABORTABLE, RESUMED = "fenced", "abortable error", "commit resumed"
TAINTED, REPLAYED, REBALANCED = "taint rebuild", "replay from the row", "rebalance"
RECONNECTED, BISECTED, PAUSED, GAP = "reconnect", "bisect", "pause", "gap"

REQUIRED = (FENCED, ABORTABLE, RESUMED, TAINTED, REPLAYED, REBALANCED, RECONNECTED, BISECTED)
"""Those that a run of mixed faults must have taken."""

_FENCES = frozenset({"_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED"})
_NO_TAINT = frozenset({"start", "unsure end"})

Line = Mapping[str, Any]


def taken(logs: Iterable[Path], *, replays: int) -> dict[str, int]:
    """Return recovery path -> how often it was taken, 0 included.

    `replays` comes from the decision rows, which count it: a log line may die with its process.
    """
    found = Counter(dict.fromkeys((*REQUIRED, PAUSED, GAP), 0))
    for log in logs:
        found.update(paths_in(_lines(log)))
    found[REPLAYED] += replays
    return dict(found)


def since(marks: Mapping[Path, int]) -> Counter[str]:
    """Return the paths that logs show behind these positions in bytes."""
    return Counter(path for log, mark in marks.items() for path in paths_in(_lines(log, mark)))


def paths_in(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the paths that the lines of one slot's log show, in order.

    A first assignment after a start is no rebalance. A commit was resumed if, after an error that leaves it open, the
    batch is committed all the same.
    """
    open_commit = assigned = False
    for line in lines:
        event, cause = line.get("event"), line.get("cause")
        if event == "batch.committed" and open_commit:
            yield RESUMED
        if event == "recovery.started":
            if cause == "assignment" and assigned:
                yield REBALANCED
            assigned = cause != "start" and (assigned or cause == "assignment")
        if event in {"transaction.unsure", "batch.committed", "recovery.started"}:
            open_commit = line.get("call") == "commit" and line.get("kind") == "retriable"
        yield from _paths_of(line)


def _paths_of(line: Line) -> Iterator[str]:
    """Yield the paths that a line shows by itself."""
    match line:
        case {"event": "transaction.unsure" | "producer.refused", "error": error} if error in _FENCES:
            yield FENCED
        case {"event": "transaction.unsure", "kind": "abortable"}:
            yield ABORTABLE
        case {"event": "recovery.started", "rebuild": True, "cause": cause} if cause not in _NO_TAINT:
            yield TAINTED
        case {"event": "recovery.started", "cause": "gap"}:
            yield GAP
        case {"event": "work.failed", "failure": "connection"}:
            yield RECONNECTED
        case {"event": "record.dead_lettered", "error_class": "database"}:
            yield BISECTED
        case {"event": "batch.postponed"}:
            yield PAUSED


def _lines(log: Path, mark: int = 0) -> Iterator[Line]:
    with log.open("rb") as file:
        file.seek(mark)
        for text in file:
            if text.startswith(b"{"):
                try:
                    line = json.loads(text)
                except ValueError:  # its process died while it wrote, or writes still
                    continue
                yield line
