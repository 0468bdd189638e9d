"""Give a stack its ports: those it had, else the defaults of `ports.toml`, else the next free ones.

A port is claimed by a file lock before anything listens on it, so that two stacks that start at the same time cannot
choose the same one. The claim ends with the process that holds it.
"""

import errno
import fcntl
import json
import os
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Self

from common.errors import ExitCode, PipelineError
from deploy.local.home import Home, write_atomically
from deploy.local.jars import default_cache
from deploy.local.loopback import LOOPBACK, answers

HEALTH = "health"
FOR_USERS = ("api", "kafka", "postgres", "registry")
"""The ports worth telling about; nobody but the stack itself connects to the others."""
_TRIES_MAX = 500
_PORT_MAX = 65_535


class NoPortError(PipelineError):
    """No free port near a default."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Moved:
    """A port that is not the default: something else listens there, or did when this stack began."""

    name: str
    wanted: int
    given: int
    as_before: bool


class Claims:
    """The ports that this process holds: while the block lasts, until `release`, or for as long as it lives."""

    def __init__(self, folder: Path | None = None) -> None:
        """Share `folder` with every other stack of the machine's user."""
        self._folder = folder or default_cache() / "ports"
        self._held: dict[int, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def claim(self, port: int) -> bool:
        """Take the port unless another stack holds it or something listens there."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        if not is_free(port):
            os.close(descriptor)
            return False
        self._held[port] = descriptor
        return True

    def release(self) -> None:
        """Give all of them back."""
        while self._held:
            _, descriptor = self._held.popitem()
            os.close(descriptor)


def defaults() -> dict[str, int]:
    """Return the default port per name, as `ports.toml` has them."""
    return dict(tomllib.loads(resources.files(__package__).joinpath("ports.toml").read_text(encoding="utf-8")))


def assign(home: Home, names: Iterable[str], claims: Claims) -> tuple[dict[str, int], tuple[Moved, ...]]:
    """Claim a port per name, remember them in the home, and tell which of those for users moved.

    A name is one of `ports.toml`, or `health.` followed by a process.
    """
    remembered = recall(home)
    given: dict[str, int] = {}
    moved = []
    for name in names:
        wanted = _default(name)
        given[name] = _claim_first(name, _candidates(remembered.get(name), wanted), claims)
        if given[name] != wanted and name in FOR_USERS:
            moved.append(Moved(name, wanted, given[name], as_before=given[name] == remembered.get(name)))
    write_atomically(home.ports, json.dumps({**remembered, **given}, indent=2))
    return given, tuple(moved)


def recall(home: Home) -> Mapping[str, int]:
    """Return the ports that this stack had last; empty before its first start."""
    try:
        return dict(json.loads(home.ports.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def is_free(port: int) -> bool:
    """Tell whether nothing answers on the port, by either loopback address, and a server could listen on it."""
    if any(answers(port, address=address) for address in (LOOPBACK, "::1")):
        return False  # a bind alone is not enough: macOS lets one in beside a listener on all interfaces
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run linger for a minute; servers reuse such a port, so must this test.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def _default(name: str) -> int:
    return defaults()[name.partition(".")[0]]


def _candidates(remembered: int | None, wanted: int) -> Iterable[int]:
    if remembered is not None:
        yield remembered
    yield from range(wanted, min(wanted + _TRIES_MAX, _PORT_MAX))


def _claim_first(name: str, candidates: Iterable[int], claims: Claims) -> int:
    for port in candidates:
        if claims.claim(port):
            return port
    raise NoPortError(
        f"no free port for {name}: {_default(name)} and the {_TRIES_MAX} after it are busy",
        cure="change the default in deploy/local/ports.toml, or stop what listens there",
    )
