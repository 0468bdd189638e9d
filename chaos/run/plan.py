"""What a chaos run arms, and the evidence of what fired: the two files between a run and the processes it hurts.

The control file is a JSON list of arms; it may be rewritten while a process runs, and hits count from there. The
evidence file has one JSON line per arm that fired, written and synced before the process acted on it. An arm fires
once, across all processes that share the two files: a worker that was killed and restarted is not killed again.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any


class Action(StrEnum):
    """What a process does to itself at an armed point."""

    KILL = "kill"
    """SIGKILL: nothing is unwound."""
    STOP = "stop"
    """SIGSTOP: the process that armed it sends SIGCONT."""
    RAISE = "raise"
    """An unexpected exception."""
    SLEEP = "sleep"
    """Wait `seconds`."""
    EXIT = "exit"
    """SystemExit: context managers and `finally` run, `except Exception` does not."""
    TERM = "term"
    """SIGTERM: a graceful stop asked for at this very point."""
    JUMP = "jump"
    """The process's wall clock runs `seconds` ahead from now on, behind if they are negative, as Python reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Do `action` at the `hit`-th passing of `point` (1 is the first). `flush`: have the producer send all before."""

    point: str
    action: Action
    hit: int = 1
    seconds: float = 0.0
    flush: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if ":" not in self.point:
            raise ValueError(f"a point is <service>:<point>, for example inventory:db.committed, not {self.point!r}")
        if self.hit < 1 or (self.seconds < 0 and self.action is not Action.JUMP):
            raise ValueError(f"{self.point}: hit counts from 1, seconds from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """One line of evidence. `txn_open`: this process had begun a Kafka transaction and not seen its end.

    `monotonic` is the machine's monotonic clock in seconds, equal for all processes of one boot.
    """

    arm: str
    point: str
    hit: int
    action: Action
    pid: int
    txn_open: bool
    monotonic: float


def write_plan(control: Path, arms: Sequence[Arm]) -> None:
    """Replace the control file in one step: a running process reads the old plan or the new one."""
    draft = control.with_name(f".{control.name}.{os.getpid()}")
    draft.write_text(json.dumps([asdict(arm) for arm in arms], indent=2) + "\n", encoding="utf-8")
    draft.replace(control)


def read_plan(control: Path) -> tuple[Arm, ...]:
    """Return the arms; none if the file does not exist. Raises ValueError naming the entry that is wrong."""
    try:
        entries = json.loads(control.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    if not isinstance(entries, list):
        raise ValueError(f"{control}: a plan is a JSON list")  # noqa: TRY004 - a wrong file, not a wrong call
    return tuple(_arm(index, entry) for index, entry in enumerate(entries))


def read_evidence(evidence: Path) -> tuple[Fired, ...]:
    """Return what fired, in the order of firing; nothing if the file does not exist."""
    try:
        lines = evidence.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(_fired(json.loads(line)) for line in lines)


def claim(evidence: Path, fired: Fired) -> bool:
    """Write the line and sync it; return False, and write nothing, if this arm fired before in any process."""
    with evidence.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if any(json.loads(line)["arm"] == fired.arm for line in file):
            return False
        file.write(json.dumps(asdict(fired)) + "\n")
        file.flush()
        os.fsync(file.fileno())
        return True


def _arm(index: int, entry: Any) -> Arm:
    try:
        known = {name: value for name, value in entry.items() if name != "action"}
        # Without an id of its own an entry is known by its place and content.
        known.setdefault("id", f"{index}:{json.dumps(entry, sort_keys=True)}")
        return Arm(action=Action(entry["action"]), **known)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        names = ", ".join(f.name for f in fields(Arm))
        raise ValueError(f"entry {index} of the plan: {error}; an entry has {names}") from error


def _fired(line: dict[str, Any]) -> Fired:
    return Fired(**{**line, "action": Action(line["action"])})
