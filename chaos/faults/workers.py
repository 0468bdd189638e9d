"""Faults of the inventory workers: their end, their sleep, their doubles, their coming and going."""

import random
import time

from chaos.faults.harness import Evidence, Fault, Field, Hurts, told
from chaos.paths import ABORTABLE, FENCED
from chaos.points import POINTS, ZOMBIES, Way
from chaos.run.pipeline import Kept
from chaos.run.plan import Action, Arm
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
TWIN_SECONDS_MAX = 60.0
STORM_ROUNDS = 2

_LOADED = tuple(str(point) for point in POINTS if point.service == "inventory" and point.way is Way.LOAD)
_ASLEEP = tuple(str(point) for point in ZOMBIES if point.way is Way.LOAD)
_ERRING = ("inventory:taken", "inventory:db.decided", "inventory:db.committed", "inventory:produced")


def kill(field: Field, chance: random.Random) -> Evidence:
    """SIGKILL at a point of the loop."""
    return told(field.fire(Arm(point=chance.choice(_LOADED), action=Action.KILL, hit=chance.randint(1, 3))))


def raise_error(field: Field, chance: random.Random) -> Evidence:
    """Raise an error that nobody expects at a point of the loop: the process ends, or the batch comes again."""
    return told(field.fire(Arm(point=chance.choice(_ERRING), action=Action.RAISE, hit=chance.randint(1, 3))))


def kill_between_commits(field: Field, _chance: random.Random) -> Evidence:
    """SIGKILL after the database's commit and before Kafka's: the successor must answer from the row."""
    return told(field.fire(Arm(point="inventory:db.committed", action=Action.KILL)))


def zombie(field: Field, chance: random.Random) -> Evidence:
    """Stop with a batch in hand until the session and the transaction are over and others have the partitions."""
    return _sleep(field, Arm(point=chance.choice(_ASLEEP), action=Action.STOP), ZOMBIE_SECONDS)


def zombie_in_transaction(field: Field, _chance: random.Random) -> Evidence:
    """Stop before the commit of an open transaction until the broker has ended it: the sleeper is fenced."""
    return field.provoke(
        FENCED,
        lambda: _sleep(field, Arm(point="inventory:offsets_sent", action=Action.STOP, flush=True), ZOMBIE_SECONDS),
    )


def zombie_of_a_session(field: Field, _chance: random.Random) -> Evidence:
    """Stop in a transaction for longer than the session alone: its offsets are refused."""
    return field.provoke(
        ABORTABLE, lambda: _sleep(field, Arm(point="inventory:produced", action=Action.STOP), SHORT_SECONDS)
    )


def _sleep(field: Field, arm: Arm, seconds: float) -> Evidence:
    fired = field.fire(arm)
    try:
        time.sleep(seconds)
    finally:
        awake = field.wake(fired)
    return {**told(fired), "seconds": seconds, "woke": awake}


def outlast_poll(field: Field, _chance: random.Random) -> Evidence:
    """Sleep over a batch for longer than max.poll.interval.ms, while heartbeats go on."""
    fired = field.fire(Arm(point="inventory:db.committed", action=Action.SLEEP, seconds=NAP_SECONDS))
    time.sleep(NAP_SECONDS)
    return {**told(fired), "seconds": NAP_SECONDS}


def jump_clock(field: Field, chance: random.Random) -> Evidence:
    """Have a worker's clock run an hour ahead from one batch on, until it is started anew."""
    fired = field.fire(Arm(point=chance.choice(_LOADED), action=Action.JUMP, seconds=JUMP_SECONDS))
    return {**told(fired), "seconds": JUMP_SECONDS}


def rotate(field: Field, _chance: random.Random) -> Evidence:
    """SIGTERM to one worker after the other, under load."""
    turn = field.unspared("inventory")
    codes = {}
    for kept in turn:
        stopped = field.stop_in_order(kept)
        codes[stopped.name] = (round(stopped.seconds, 2), stopped.code)
    for kept in turn:
        field.wait_ready(kept)
    return {"stopped": codes}


def twin(field: Field, _chance: random.Random) -> Evidence:
    """Start a second process in a slot that is taken: one of the two must give way."""
    former = field.lane.kept("inventory", 0)
    field.wait_ready(former)
    known = len(former.deaths)
    double = field.lane.start("inventory", TWIN, **{**field.worker_options, "PIPELINE_SLOT": "0"})
    field.others.append(double)
    try:
        field.lane.wait(lambda: _gave_way(former, known, double), "a twin giving way", seconds=TWIN_SECONDS_MAX)
    finally:
        field.lane.end(double, graceful=False)
    ended = [*former.deaths[known:], *double.deaths]
    return {"slot": 0, "ended": [(death.pid, death.code) for death in ended]}


def _gave_way(former: Kept, known: int, double: Kept) -> bool:
    return any(death.code == ExitCode.UNAVAILABLE for death in (*former.deaths[known:], *double.deaths))


def storm(field: Field, _chance: random.Random) -> Evidence:
    """Have one more worker come and go, each time for as long as it takes the group to notice."""
    pids = []
    for _ in range(STORM_ROUNDS):
        guest = field.lane.start("inventory", GUEST, **field.worker_options)
        field.others.append(guest)
        try:
            field.wait_ready(guest)
            pids.append(guest.pid)
            time.sleep(PAUSE_SECONDS)
        finally:
            field.lane.end(guest, graceful=False)
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
