"""What a service is to those who start it, as a value; nothing of it is imported."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.topics import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One row: a program that runs once, or once per slot."""

    name: str
    """As in `pipeline status`, in its log's name, as the job of its metrics."""
    program: tuple[str, ...]
    """What follows `python -m`: the module, and its arguments."""
    settings: str = ""
    """Its settings class, as `module:Class`; empty where it reads its environment by itself."""
    role: str | None = None
    """Its database role; None for a service without tables."""
    groups: tuple[Group, ...] = ()
    """The consumer groups whose members its processes are."""
    slots: int | None = None
    """How many slots run by default; None for a service that has none."""
    http: bool = False
    """Whether it serves clients too, at a port of its own."""
    folder: Path | None = None
    """Where its modules are, if they are no part of this installation."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Set in its environment, beside what leads it to its stack."""

    @property
    def package(self) -> str:
        """The package it is made of."""
        return self.program[0].partition(".")[0]

    @property
    def argv(self) -> tuple[str, ...]:
        """The command that starts it, by this interpreter."""
        return (sys.executable, "-m", *self.program)

    @property
    def port_variable(self) -> str:
        """The variable with the port at which /readyz answers."""
        return "PIPELINE_HTTP_PORT" if self.http else "PIPELINE_HEALTH_PORT"
