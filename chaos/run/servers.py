"""The servers that a run may hurt, and what its owner may do in the database."""

from typing import Any, NamedTuple, Protocol


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
