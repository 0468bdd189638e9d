"""Faults of the inventory workers: their end, their sleep, their doubles, their coming and going."""

import random
import time

from chaos.faults.harness import PASSED_UNDER_LOAD, Evidence, Fault, Harness, Hurts, at_a_point, how, left_behind
from chaos.paths import ABORTABLE, FENCED
from chaos.points import ZOMBIES, Way
from chaos.run.plan import Action, Arm
from chaos.run.processes import Slot
from onceloop.errors import ExitCode

ZOMBIE_SECONDS = 6.5
"""More than the session, the transaction's time-out and the broker's sweep."""
SHORT_SECONDS = 3.2
"""More than the session, less than the transaction's time-out."""
NAP_SECONDS = 7.5
"""More than max.poll.interval.ms of these workers."""
JUMP_SECONDS = 3600.0
PAUSE_SECONDS = 0.5
TWIN, GUEST = 8, 9
STORM_ROUNDS = 2

_LOADED = PASSED_UNDER_LOAD["inventory"]
_ASLEEP = [point for point in ZOMBIES if point.way is Way.LOAD]
_ERRING = [point for point in _LOADED if point.name in {"taken", "db.decided", "db.committed", "produced"}]

kill = at_a_point(_LOADED, Action.KILL, hits=3)
"""SIGKILL at a point of the loop."""
raise_error = at_a_point(_ERRING, Action.RAISE, hits=3)
"""Raise an unexpected error at a point of the loop: the process ends, or the batch comes again."""


def kill_between_commits(harness: Harness, _chance: random.Random) -> Evidence:
    """SIGKILL after the database's commit and before Kafka's: the successor must answer from the row."""
    return left_behind(harness.fire(Arm(point="inventory:db.committed", action=Action.KILL)))


def zombie(harness: Harness, chance: random.Random) -> Evidence:
    """Stop with a batch in hand until the session and the transaction are over and others have the partitions."""
    point = chance.choice(_ASLEEP)
    return _sleep(harness, Arm(point=str(point), action=Action.STOP, flush=point.flush), ZOMBIE_SECONDS)


def zombie_in_transaction(harness: Harness, _chance: random.Random) -> Evidence:
    """Stop before the commit of an open transaction until the broker has ended it: the sleeper is fenced."""
    return harness.provoke(
        FENCED,
        lambda: _sleep(harness, Arm(point="inventory:offsets_sent", action=Action.STOP, flush=True), ZOMBIE_SECONDS),
    )


def zombie_of_a_session(harness: Harness, _chance: random.Random) -> Evidence:
    """Stop in a transaction for longer than the session alone: its offsets are refused."""
    return harness.provoke(
        ABORTABLE, lambda: _sleep(harness, Arm(point="inventory:produced", action=Action.STOP), SHORT_SECONDS)
    )


def _sleep(harness: Harness, arm: Arm, seconds: float) -> Evidence:
    fired = harness.fire(arm)
    try:
        time.sleep(seconds)
    finally:
        awake = harness.pipeline.wake(fired)
    return {**left_behind(fired), "seconds": seconds, "woke": awake}


def outlast_poll(harness: Harness, _chance: random.Random) -> Evidence:
    """Sleep over a batch for longer than max.poll.interval.ms, while heartbeats go on."""
    fired = harness.fire(Arm(point="inventory:db.committed", action=Action.SLEEP, seconds=NAP_SECONDS))
    time.sleep(NAP_SECONDS)
    return {**left_behind(fired), "seconds": NAP_SECONDS}


def jump_clock(harness: Harness, chance: random.Random) -> Evidence:
    """Have a worker's clock run an hour ahead from one batch on, until it is restarted."""
    fired = harness.fire(Arm(point=str(chance.choice(_LOADED)), action=Action.JUMP, seconds=JUMP_SECONDS))
    return {**left_behind(fired), "seconds": JUMP_SECONDS}


def rotate(harness: Harness, _chance: random.Random) -> Evidence:
    """SIGTERM to one worker after the other, under load."""
    turn = harness.unspared("inventory")
    stops = [harness.stop_in_order(slot) for slot in turn]
    harness.wait_ready(*turn)
    return {"stopped": how(stops)}


def twin(harness: Harness, _chance: random.Random) -> Evidence:
    """Start a second process in a slot that is taken: one of the two must give way."""
    former = harness.pipeline.slot("inventory", 0)
    harness.wait_ready(former)
    known = len(former.deaths)
    with harness.guest(TWIN, graceful=False, PIPELINE_SLOT="0") as double:
        harness.wait(lambda: _gave_way(former, known, double), "a twin giving way")
    ended = [*former.deaths[known:], *double.deaths]
    return {"slot": 0, "ended": [(death.pid, death.code) for death in ended]}


def _gave_way(former: Slot, known: int, double: Slot) -> bool:
    return any(death.code == ExitCode.UNAVAILABLE for death in (*former.deaths[known:], *double.deaths))


def storm(harness: Harness, _chance: random.Random) -> Evidence:
    """Have one more worker come and go, each time for as long as it takes the group to notice."""
    pids = []
    for _ in range(STORM_ROUNDS):
        with harness.guest(GUEST, graceful=False) as guest:
            harness.wait_ready(guest)
            pids.append(guest.pid)
            time.sleep(PAUSE_SECONDS)
    return {"came_and_went": pids}


FAULTS = (
    Fault("kill", Hurts.WORKERS, kill),
    Fault("kill between the commits", Hurts.WORKERS, kill_between_commits),
    Fault("unexpected error", Hurts.WORKERS, raise_error),
    Fault("zombie", Hurts.WORKERS, zombie),
    Fault("zombie in a transaction", Hurts.WORKERS, zombie_in_transaction),
    Fault("zombie of a session", Hurts.WORKERS, zombie_of_a_session),
    Fault("batch beyond max.poll", Hurts.WORKERS, outlast_poll),
    Fault("clock jump", Hurts.WORKERS, jump_clock),
    Fault("rotation", Hurts.WORKERS, rotate),
    Fault("twin", Hurts.WORKERS, twin),
    Fault("rebalance storm", Hurts.WORKERS, storm),
)
