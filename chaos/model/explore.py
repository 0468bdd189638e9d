"""Play interleavings, seed after seed, until one breaks a rule or the number is reached.

A result without takeovers, zombies, replays or rebuilds is void: it looked at nothing (M2). `replay` plays one seed
again, step for step (M4).
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from chaos.model.rules import Violation, violations
from chaos.model.scenario import Scenario
from chaos.model.stage import points_are_steps
from chaos.model.world import World

TRACE_STEPS = 40
IDLE = frozenset({"poll", "nothing polled"})
MUST_HAPPEN = (
    "crashes",
    "restarts",
    "takeovers",
    "zombies",
    "orderly stops",
    "database outages",
    "late requests",
    "inventory_replays",
    "dead_letters: orders.created",
    "pauses",
    "transaction time-outs",
    "suppressed duplicates",
    "recoveries: assignment",
    "recoveries: busy",
    "recoveries: gap",
    "recoveries: poison",
    "recoveries: unsure end",
    "recoveries: reqtmout",
    "recoveries: fail",
    "producer_rebuilds: unsure end",
)
"""Paths that an exploration must have taken; the names after a colon are the labels of the product's metrics."""


@dataclass(frozen=True, slots=True)
class Play:
    """One interleaving, seen through: all its steps (who, what), what happened how often, what broke."""

    seed: int
    steps: tuple[tuple[str, str], ...]
    counts: Counter[str]
    violations: tuple[Violation, ...]

    def story(self, last: int = TRACE_STEPS) -> str:
        """Return what broke and the steps that led there."""
        steps = [(number, *step) for number, step in enumerate(self.steps, 1) if step[1] not in IDLE]
        return "\n".join(
            [
                *(f"{broken.rule}: {broken.what}" for broken in self.violations),
                f"seed {self.seed}, the last {last} of {len(self.steps)} steps, empty polls left out:",
                *(f"{number:6}  {who:16}  {what}" for number, who, what in steps[-last:]),
                f"again: chaos.model.replay({self.seed})",
            ]
        )


@dataclass(slots=True)
class Exploration:
    """What was explored. `failed` is the first interleaving that broke a rule."""

    interleavings: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failed: Play | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Return the paths that must be taken and were not; any makes the result void."""
        return tuple(path for path in MUST_HAPPEN if not self.counts[path])


def _unreported(_played: int) -> None:
    """Report nothing."""


def _whole(scenario: Scenario) -> Scenario:
    return scenario


def explore(
    seed: int,
    interleavings: int,
    report: Callable[[int], None] = _unreported,
    *,
    narrow: Callable[[Scenario], Scenario] = _whole,
) -> Exploration:
    """Play this many interleavings, of the seeds from `seed` on; stop at the first that breaks a rule.

    `report` is called after each with how many were played. `narrow` leads all scenarios to what one looks for.
    """
    found = Exploration()
    with _one_core():
        for number in range(interleavings):
            play = _play(seed + number, narrow)
            found.interleavings += 1
            found.counts += play.counts
            report(found.interleavings)
            if play.violations:
                found.failed = play
                break
    return found


def replay(seed: int, *, narrow: Callable[[Scenario], Scenario] = _whole) -> Play:
    """Play one interleaving."""
    return _play(seed, narrow)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep to one core, where the platform can: only one thread moves, and a baton that changes cores is slow."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[os.getpid() % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _play(seed: int, narrow: Callable[[Scenario], Scenario]) -> Play:
    world = World(seed, narrow)
    with points_are_steps(world.scheduler):
        done = world.play()
    broken = violations(world, done=done)
    return Play(seed, tuple(world.scheduler.trace), world.tally, tuple(broken))
