"""Say what to start, as values; starting it is `process.py`'s, when and how often is `runner.py`'s."""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One process to start."""

    argv: tuple[str, ...]
    log: Path
    """Where standard output and error go, appended."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the inherited one. A secret goes here or into a file, never into `argv`."""
    account: str | None = None
    """The system user to run as; only root can name one."""
    stop_signal: signal.Signals = signal.SIGTERM
    """The signal that asks for an orderly end."""


class Program(Protocol):
    """A part of the stack: one process, or only commands that must succeed once."""

    @property
    def name(self) -> str:
        """The service, as in `pipeline logs NAME`."""

    @property
    def slot(self) -> int | None:
        """The slot, where a service has several."""

    def prepare(self) -> Iterator[Launch]:
        """Yield the commands that must succeed before each start, in order; small effects may happen in between."""

    def launch(self) -> Launch | None:
        """Return the process itself; None when `prepare` was all there is to do."""

    def ready(self) -> bool:
        """Ask the process whether it serves; answer within two seconds and raise nothing."""


def label(program: Program) -> str:
    """Return the name that is unique in a stack: `kafka`, `inventory-0`."""
    return program.name if program.slot is None else f"{program.name}-{program.slot}"
