"""Run the app under test with its points armed: `python -m onceloop.testing.launch MODULE:app --names JSON ...`.

The user's module is imported and run unchanged; `onceloop.failpoints.point` is rebound before, and nothing of the app
knows. Names of topics, group and database are those of the trial.
"""

import argparse
import os
import signal
from collections import Counter
from pathlib import Path

from onceloop import failpoints
from onceloop.testing import guardian, plan, subject


class Hook:
    """What stands in for `failpoints.point`: count the passings, and act where the plan says so."""

    def __init__(self, plan_file: Path, evidence: Path) -> None:
        self._arms = plan.read(plan_file)
        self._evidence = evidence
        self._passed: Counter[str] = Counter()

    def __call__(self, name: str) -> None:
        """Pass the point `<group>:<name>`."""
        own = name.rpartition(":")[2]
        self._passed[own] += 1
        for arm in self._arms:
            if arm.point == own and arm.hit == self._passed[own] and plan.claim(self._evidence, arm):
                os.kill(os.getpid(), signal.SIGKILL if arm.action is plan.Action.KILL else signal.SIGSTOP)


def main() -> None:
    """Enlist with the guardian, arm, be the app."""
    guardian.enlist()
    parser = argparse.ArgumentParser(prog="python -m onceloop.testing.launch")
    parser.add_argument("app")
    parser.add_argument("--names", required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--evidence", type=Path, required=True)
    asked = parser.parse_args()
    failpoints.point = Hook(asked.plan, asked.evidence)
    subject.Subject(asked.app).be(subject.Names.from_json(asked.names), slot=asked.slot)


if __name__ == "__main__":
    main()
