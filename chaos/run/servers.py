"""What a chaos run stands on, as its owner hands it over: servers to hurt, a pipeline, processes to start."""

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from audit.config import CheckerSettings
from audit.terms import Offsets


class Child(Protocol):
    """A started process."""

    @property
    def pid(self) -> int:
        """Its id."""

    def poll(self) -> int | None:
        """Return the exit code once it has ended; negative: the signal that ended it."""

    def wait(self, timeout_seconds: float) -> int | None:
        """Return the exit code, or None if it outlasts the time."""

    def ask_to_stop(self) -> None:
        """Ask for an orderly end."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and all below it."""

    def kill(self) -> None:
        """SIGKILL it and all below it; return when they are gone."""


class Server(Protocol):
    """The controller, Kafka, PostgreSQL or the registry. Only the fault that stopped it restarts it."""

    @property
    def pid(self) -> int:
        """The server's process id."""

    def kill(self) -> None:
        """SIGKILL it and all its processes; return when they are gone."""

    def start(self) -> None:
        """Start it again on the same data; return when it serves."""

    def freeze(self) -> None:
        """SIGSTOP it and all its processes."""

    def thaw(self) -> None:
        """SIGCONT them."""


class Broker(NamedTuple):
    """One more broker: its id in the cluster, host and port, and how it is hurt."""

    id: int
    address: str
    server: Server


class Administrator(Protocol):
    """The superuser of one database; each statement is a transaction of its own."""

    def __call__(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement with `:name` parameters; return its rows, none if it has no result."""


class Balance(Protocol):
    """What is on a shelf, in units."""

    @property
    def on_hand(self) -> int:
        """What is there."""

    @property
    def reserved(self) -> int:
        """What of it orders hold."""


class Shelves(Protocol):
    """`pipeline stock`. Raises ReportedError if the database refuses the change, or does not let it happen now."""

    def set(self, sku: str, units: int) -> Balance:
        """Have so many on hand."""

    def add(self, sku: str, units: int) -> Balance:
        """Put so many more there, or take some away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A provisioned namespace and database of one lane's own, empty of stock.

    Its topics have a past that retention has taken: no partition begins at offset 0.
    """

    name: str
    folder: Path
    """Where plans, evidence and logs go."""
    settings: CheckerSettings
    environment: Callable[[str | None], Mapping[str, str]]
    """Database role -> the variables of a service that acts as it; None: of one that has no tables."""
    start: Callable[[tuple[str, ...], Path, Mapping[str, str]], Child]
    """Start `python -m ...` with a log file and an environment; it ends with the run at the latest."""
    free_port: Callable[[], int]
    administer: Administrator
    session: Callable[[], AbstractContextManager[Administrator]]
    """Open a session of the superuser whose statements are one transaction; the end of the block rolls it back."""
    shelves: Shelves
    backup: Callable[[], Callable[[], None]]
    """Copy the database as it is now; return what puts that copy in its place. All sessions end, each time."""
    pipeline: Callable[..., str]
    """Run `pipeline` with these arguments on this site; return what it prints. Raises ReportedError if it refuses."""
    heads: Offsets
    """Where each partition of a topic begins; below it there never was an order."""
    secrets: tuple[str, ...]
    """Passwords that no log may hold."""


class Ground(Protocol):
    """The servers of one chaos command, and what can be opened on them."""

    @property
    def controller(self) -> Server:
        """The controller of the broker's cluster."""

    @property
    def kafka(self) -> Server:
        """The broker."""

    @property
    def postgres(self) -> Server:
        """The database server."""

    @property
    def registry(self) -> Server:
        """The schema registry."""

    def second_broker(self) -> AbstractContextManager[Broker]:
        """Have one more broker in the cluster while the block runs; it leads what is moved there, or made meanwhile."""

    def site(self, name: str, *, partitions: int) -> AbstractContextManager[Site]:
        """Open a fresh pipeline whose event topics have so many partitions; its processes and topics end with it."""
