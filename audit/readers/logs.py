"""Search logs for what must not be in any: the values of secrets, e-mail addresses. What is found is not repeated."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from audit.testimony import Leak

ADDRESS = re.compile(rb"[\w.%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


def search(paths: Sequence[Path], secrets: Sequence[str]) -> tuple[int, tuple[Leak, ...]]:
    """Return how many lines were searched, and what was found: each line once per thing."""
    lines, leaks = 0, []
    forbidden = [re.compile(re.escape(secret.encode())) for secret in secrets if secret]
    for path in paths:
        content = path.read_bytes()
        lines += content.count(b"\n")
        found = {(line, "a secret") for pattern in forbidden for line in _lines(pattern, content)}
        found |= {(line, "an e-mail address") for line in _lines(ADDRESS, content)}
        leaks += [Leak(path.name, line, what) for line, what in sorted(found)]
    return lines, tuple(leaks)


def _lines(pattern: re.Pattern[bytes], content: bytes) -> Iterator[int]:
    for found in pattern.finditer(content):
        yield content.count(b"\n", 0, found.start()) + 1
