"""Give a stack its ports: those it had, else the defaults of `ports.toml`, else the next free ones.

A port is claimed before anything listens on it, so that two stacks that start at the same time cannot choose the same
one, whichever user runs them. The claim is the UDP port of the same number, which no server of ours uses: the kernel
gives it to one process of the machine, and takes it back when that process ends, however it ends (docs/adr/0045).

Other programs do not ask for a claim. Whatever takes a port between claim and listen is met by `supervisor.run`.
"""

import errno
import json
import socket
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Self

from deploy.local.home import Home, write_atomically
from deploy.local.supervise.loopback import LOOPBACK, answers
from onceloop.errors import ExitCode, ReportedError

HEALTH = "health"
FOR_USERS = ("api", "kafka", "postgres", "registry")
"""The ports worth showing; only the stack itself connects to the others."""
_TRIES_MAX = 500
_PORT_MAX = 65_535


class NoPortError(ReportedError):
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

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def claim(self, port: int) -> bool:
        """Take the port unless another stack holds it or something listens there."""
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if _bind(claim, port) and is_free(port):
            self._held.append(claim)
            return True
        claim.close()
        return False

    def release(self) -> None:
        """Give all of them back."""
        while self._held:
            self._held.pop().close()


def defaults() -> dict[str, int]:
    """Return the default port per name, as `ports.toml` has them."""
    return dict(tomllib.loads(resources.files(__package__).joinpath("ports.toml").read_text(encoding="utf-8")))


def assign(home: Home, names: Iterable[str], claims: Claims) -> tuple[dict[str, int], tuple[Moved, ...]]:
    """Claim a port per name, remember them in the home, and return which of those for users moved.

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
    """Return whether nothing answers on the port, by either loopback address, and a server could listen on it."""
    if any(answers(port, address=address) for address in (LOOPBACK, "::1")):
        return False  # a bind alone is not enough: macOS lets one in beside a listener on all interfaces
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier run linger for a minute; servers reuse such a port, so must this test.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind(probe, port)


def _bind(opened: socket.socket, port: int) -> bool:
    """Bind it to the port; return whether that was free."""
    try:
        opened.bind((LOOPBACK, port))
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
        cure="change the default in deploy/local/stack/ports.toml, or stop what listens there",
    )
