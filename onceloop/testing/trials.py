"""The trials: what each does to the processes of the app, and how long the slow ones wait.

Every one ends in the same way: all records are fed, the group stands at the end, the processes were asked to end. Then
the judge looks at what is there. A trial whose fault did not happen raises `MissedError`: it proves nothing.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from onceloop.testing.case import Item, items
from onceloop.testing.members import MissedError
from onceloop.testing.plan import Action, Arm
from onceloop.testing.points import POINTS, Point, Way
from onceloop.testing.sandbox import Sandbox
from onceloop.testing.subject import POISON_VALUE

REACH_SECONDS = 30.0
"""A start, the group's share, and the records up to the point."""
OUTAGE_SECONDS = 2.0
DOUBT_SECONDS = 5.0
"""So long a process that does not believe the group's offsets is watched."""
TWIN_SECONDS = 20.0
UNAVAILABLE = 75
"""The exit code of a process that another one has replaced."""
POISONS = 4
"""Records that the harness refuses, per input: some lie behind good ones of the same batch."""
COPIED = 3
"""Of so many records one has its copy right behind it."""


class Kind(StrEnum):
    """What is done."""

    UNDISTURBED = "undisturbed"
    KILL = "kill"
    ZOMBIE = "zombie"
    OUTAGE = "database-away"
    TWIN = "twin"
    DUPLICATES = "duplicates"
    STALE = "stale-offsets"
    POISON = "poison"


_DONE = {
    Kind.UNDISTURBED: "nothing is done to the process",
    Kind.KILL: "the process is killed where",
    Kind.ZOMBIE: "the process stands still until another one has taken over, and goes on, where",
    Kind.OUTAGE: "the connection to PostgreSQL is cut, and refused for two seconds, where",
    Kind.TWIN: "two processes run in the same slot",
    Kind.DUPLICATES: "every record stands twice on its topic",
    Kind.STALE: "the group's offsets are set back to the beginning",
    Kind.POISON: "records that the handler refuses stand among the others",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One test. `point`: where, for those that have a place."""

    kind: Kind
    point: Point | None = None

    def __str__(self) -> str:
        return f"{self.kind}[{self.point.name}]" if self.point else str(self.kind)

    def sentence(self) -> str:
        """Return what is done, for people."""
        return f"{_DONE[self.kind]}: {self.point.means}" if self.point else _DONE[self.kind]

    @property
    def gated(self) -> bool:
        """Return True if the database must be reached through a gate."""
        return self.kind is Kind.OUTAGE

    @property
    def seconds(self) -> int:
        """Return about how long it takes: the slow ones start first."""
        slow = {Kind.STALE: 30, Kind.ZOMBIE: 20, Kind.TWIN: 15, Kind.OUTAGE: 10, Kind.UNDISTURBED: 100}
        return slow.get(self.kind, 5)


TRIALS: tuple[Trial, ...] = (
    Trial(Kind.UNDISTURBED),
    *(Trial(Kind.KILL, point) for point in POINTS),
    *(Trial(Kind.ZOMBIE, point) for point in POINTS if point.zombie),
    *(Trial(Kind.OUTAGE, point) for point in POINTS if point.outage),
    Trial(Kind.TWIN),
    Trial(Kind.DUPLICATES),
    Trial(Kind.STALE),
    Trial(Kind.POISON),
)


def run(trial: Trial, sandbox: Sandbox, *, seed: int) -> None:
    """Do it. Raises MissedError if the fault did not happen."""
    records = list(enumerate(sandbox.case.items(seed, sandbox.app.inputs)))
    play = _Play(trial, sandbox, records, random.Random(seed))  # noqa: S311 - seeded on purpose
    _ACTS[trial.kind](play)
    for member in sandbox.members.all:
        member.stop()


class _Play:
    """What the acts share: the records in two halves, and the arm of the trial's point."""

    def __init__(
        self, trial: Trial, sandbox: Sandbox, records: Sequence[tuple[int, Item]], chance: random.Random
    ) -> None:
        self.sandbox = sandbox
        self.records = records
        middle = (len(records) + 1) // 2
        self.first, self.second = records[:middle], records[middle:]
        self.chance = chance
        self._trial = trial

    @property
    def point(self) -> Point:
        """Return the trial's point."""
        assert self._trial.point is not None  # noqa: S101 - the acts that ask have one
        return self._trial.point

    def arm(self, action: Action) -> Arm:
        """Arm the point."""
        arm = Arm(self.point.name, action, self.point.hit)
        self.sandbox.members.arm(arm)
        return arm

    def feed_with_poison(self) -> None:
        """Feed all records, and spread among them the case's own poison, or what the harness refuses by itself."""
        inputs = self.sandbox.app.inputs
        made = [Item(topic, f"poison-{n}".encode(), POISON_VALUE) for n in range(POISONS) for topic in inputs]
        poison = items(self.sandbox.case.poison, inputs) or made
        size = len(self.records) // (len(poison) + 1) + 1
        for place in range(len(poison) + 1):
            self.sandbox.feed(self.records[place * size : (place + 1) * size])
            self.sandbox.feed([(-1, item) for item in poison[place : place + 1]], poison=True)


def _undisturbed(play: _Play) -> None:
    play.sandbox.feed(play.records)
    play.sandbox.start()
    play.sandbox.settle()


def _kill(play: _Play) -> None:
    """SIGKILL at the point; a process in the same slot goes on."""
    match play.point.way:
        case Way.REBALANCE:
            _kill_by_another(play)
        case Way.STOP:
            _kill_at_stop(play)
        case way:
            if way is Way.POISON:
                play.feed_with_poison()
            else:
                play.sandbox.feed(play.records)
            play.arm(Action.KILL)
            play.sandbox.start().killed(seconds=REACH_SECONDS)
            play.sandbox.start()
            play.sandbox.settle()


def _kill_by_another(play: _Play) -> None:
    play.sandbox.feed(play.first)
    play.arm(Action.KILL)
    victim = play.sandbox.start()
    play.sandbox.settle()
    play.sandbox.start(slot=1)
    victim.killed(seconds=REACH_SECONDS)
    play.sandbox.start()
    play.sandbox.feed(play.second)
    play.sandbox.settle()


def _kill_at_stop(play: _Play) -> None:
    play.sandbox.feed(play.first)
    play.arm(Action.KILL)
    victim = play.sandbox.start()
    play.sandbox.settle()
    victim.ask_to_stop()
    victim.killed(seconds=REACH_SECONDS)
    play.sandbox.feed(play.second)
    play.sandbox.start()
    play.sandbox.settle()


def _zombie(play: _Play) -> None:
    """SIGSTOP past the session time-out, another slot takes over, SIGCONT: what the sleeper believes is old."""
    play.sandbox.feed(play.first)
    arm = play.arm(Action.STOP)
    zombie = play.sandbox.start()
    play.sandbox.members.stopped_at(arm, zombie, seconds=REACH_SECONDS)
    zombie.expected |= {UNAVAILABLE}
    play.sandbox.start(slot=1)
    play.sandbox.settle()
    zombie.thaw()
    play.sandbox.feed(play.second)
    play.sandbox.settle()


def _outage(play: _Play) -> None:
    """The database is away for a while from the point on: connections are cut, new ones refused."""
    gate = play.sandbox.gate
    assert gate is not None  # noqa: S101 - the trial is gated
    play.sandbox.feed(play.records)
    arm = play.arm(Action.STOP)
    member = play.sandbox.start()
    play.sandbox.members.stopped_at(arm, member, seconds=REACH_SECONDS)
    gate.shut()
    member.thaw()
    if not gate.cut:
        raise MissedError("no connection to the database was there to be cut")
    time.sleep(OUTAGE_SECONDS)
    gate.reopen()
    play.sandbox.settle()


def _twin(play: _Play) -> None:
    """The same slot twice: the group lets one of the two go on, the other ends and says so."""
    play.sandbox.feed(play.first)
    twins = [play.sandbox.start()]
    play.sandbox.settle()
    twins.append(play.sandbox.start())
    play.sandbox.feed(play.second)
    for twin in twins:
        twin.expected |= {UNAVAILABLE}
    play.sandbox.members.wait_until(
        lambda: any(twin.code() == UNAVAILABLE for twin in twins),
        seconds=TWIN_SECONDS,
        what=f"one of the twins ends with {UNAVAILABLE}",
    )
    play.sandbox.settle()


def _duplicates(play: _Play) -> None:
    """Every record twice: some copies right behind their original, the others at the end."""
    late = []
    for numbered in play.records:
        play.sandbox.feed([numbered])
        if play.chance.randrange(COPIED):
            late.append(numbered)
        else:
            play.sandbox.feed([numbered])
    play.chance.shuffle(late)
    play.sandbox.feed(late)
    play.sandbox.start()
    play.sandbox.settle()


def _stale(play: _Play) -> None:
    """The group's offsets are set back: a process does not believe them; once they are right, it goes on."""
    play.sandbox.feed(play.first)
    play.sandbox.start()
    play.sandbox.settle()
    play.sandbox.members.all[-1].stop()
    right = play.sandbox.offsets()
    play.sandbox.set_offsets(dict.fromkeys(right, 0))
    doubter = play.sandbox.start()
    doubter.expected |= {UNAVAILABLE}
    time.sleep(DOUBT_SECONDS)
    doubter.stop()
    play.sandbox.set_offsets(right)
    play.sandbox.feed(play.second)
    play.sandbox.start()
    play.sandbox.settle()


def _poison(play: _Play) -> None:
    """Records that the handler refuses lie among the others."""
    play.feed_with_poison()
    play.sandbox.start()
    play.sandbox.settle()


_ACTS: dict[Kind, Callable[[_Play], None]] = {
    Kind.UNDISTURBED: _undisturbed,
    Kind.KILL: _kill,
    Kind.ZOMBIE: _zombie,
    Kind.OUTAGE: _outage,
    Kind.TWIN: _twin,
    Kind.DUPLICATES: _duplicates,
    Kind.STALE: _stale,
    Kind.POISON: _poison,
}
