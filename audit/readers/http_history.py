"""H, the history of requests over HTTP: one JSON line when a request is sent, one when its end is known.

Two lines of a request share its id. The times are the machine's monotonic clock in seconds, so the histories of one
boot may be joined. A request whose end was never written ended `info`: it may have had an effect.
"""

import hashlib
import itertools
import json
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from audit.terms import Lines
from audit.testimony import End, Request


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended."""

    end: End
    status: int | None = None
    order_id: str = ""
    reply: bytes = b""
    sent: bool = True
    why: str = ""


class HistoryWriter:
    """Appends to the file; many threads may."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("a", encoding="utf-8", buffering=1)  # a line is whole, or not there
        self._lock = threading.Lock()
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def invoke(self, *, user: str, key: str | None, lines: Lines, body: bytes) -> str:
        """Note that the request is about to be sent; return its id."""
        identity = f"{self._prefix}-{next(self._numbers)}"
        self._write(
            {"type": "invoke", "id": identity, "user": user, "key": key, "lines": lines, "body": short_digest(body)}
        )
        return identity

    def complete(self, identity: str, answer: Answer) -> None:
        """Note how it ended."""
        self._write(
            {
                "type": answer.end.value,
                "id": identity,
                "status": answer.status,
                "order_id": answer.order_id,
                "reply": short_digest(answer.reply) if answer.end is End.OK else "",
                "sent": answer.sent,
                "why": answer.why,
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:  # the time is taken inside: the file is in order of time
            self._file.write(json.dumps({"t": time.monotonic(), **line}, separators=(",", ":")) + "\n")


def read_history(paths: Sequence[Path]) -> tuple[Request, ...]:
    """Return the requests, in the order in which they were sent."""
    requests = {}
    for path in paths:
        for line in _lines(path):
            if line["type"] == "invoke":
                requests[line["id"]] = Request(
                    id=line["id"],
                    user=line["user"],
                    key=line["key"],
                    lines=tuple((sku, quantity) for sku, quantity in line["lines"]),
                    body=line["body"],
                    began=line["t"],
                )
            else:
                requests[line["id"]] = requests[line["id"]]._replace(
                    ended=line["t"],
                    end=End(line["type"]),
                    **{name: line[name] for name in ("status", "order_id", "reply", "sent", "why")},
                )
    return tuple(sorted(requests.values(), key=lambda request: request.began))


def short_digest(content: bytes) -> str:
    """Return 16 hexadecimal digits that stand for the bytes."""
    return hashlib.sha256(content).hexdigest()[:16]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # the last one may be half of one
                yield json.loads(line)
