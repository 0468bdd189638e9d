"""What a trial arms, and the evidence of what fired: two files between the harness and the processes that it hurts.

An arm fires once, across all processes that share the two files: a process that was killed and restarted is not killed
again. The evidence is written and synced before the process acts on it.
"""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Action(StrEnum):
    """What a process does to itself at an armed point."""

    KILL = "kill"
    """SIGKILL: nothing is unwound."""
    STOP = "stop"
    """SIGSTOP, until the harness sends SIGCONT."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Do `action` at the `hit`-th passing of `point`; 1 is the first of a process."""

    point: str
    action: Action
    hit: int = 1


def write(plan: Path, arms: Sequence[Arm]) -> None:
    """Replace the plan in one step: a process that starts reads the old one or the new one."""
    draft = plan.with_suffix(".draft")
    draft.write_text(json.dumps([asdict(arm) for arm in arms]), encoding="utf-8")
    draft.replace(plan)


def read(plan: Path) -> tuple[Arm, ...]:
    """Return the arms; none if there is no plan."""
    if not plan.exists():
        return ()
    entries = json.loads(plan.read_text(encoding="utf-8"))
    return tuple(Arm(entry["point"], Action(entry["action"]), entry["hit"]) for entry in entries)


def claim(evidence: Path, arm: Arm) -> bool:
    """Note that this process fires the arm; return False, and note nothing, if another one did."""
    with evidence.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if any(_names(line, arm) for line in file):
            return False
        file.write(json.dumps({**asdict(arm), "pid": os.getpid()}) + "\n")
        file.flush()
        os.fsync(file.fileno())
        return True


def fired(evidence: Path, arm: Arm) -> bool:
    """Return True once some process fired the arm."""
    return evidence.exists() and any(_names(line, arm) for line in evidence.read_text(encoding="utf-8").splitlines())


def _names(line: str, arm: Arm) -> bool:
    entry = json.loads(line)
    return (entry["point"], entry["action"], entry["hit"]) == (arm.point, arm.action, arm.hit)
