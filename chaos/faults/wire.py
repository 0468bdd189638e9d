"""Faults between inventory slot 0 and its servers: what is lost, late, cut or swallowed on the way."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chaos.faults.harness import FIRED_SECONDS_MAX, Evidence, Fault, Harness, Hurts
from chaos.paths import RESUMED
from chaos.run.findings import VoidRunError
from chaos.wire.proxy import COMMIT, END_TXN, FETCH, PRODUCE, TXN_OFFSET_COMMIT
from chaos.wire.relay import Action, Direction, Relay, Rule

HELD_COMMIT_SECONDS = 2.5
"""More than one slice of the commit, so that the worker has to commit again."""
HELD_SECONDS = 1.5
PARTITION_SECONDS = (3.0, 5.0)
LATENCY_SECONDS = 0.15
LATE_FRAMES = 20
REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE


@contextmanager
def _ruled(relay: Relay, kind: int | str, **what: Any) -> Iterator[Rule]:
    """Add a rule; it acts on nothing after the block."""
    rule = relay.rule(kind, **what)
    try:
        yield rule
    finally:
        rule.times = 0
        rule.release()


def _meet(relay: Relay, kind: int | str, **what: Any) -> Evidence:
    with _ruled(relay, kind, **what) as rule:
        frame = rule.wait(FIRED_SECONDS_MAX)
        time.sleep(what.get("seconds") or 0)
        return {"frame": frame.kind, "way": frame.direction.value, "done": rule.action.name.lower()}


def lose_commit_answer(harness: Harness, chance: random.Random) -> Evidence:
    """Lose the answer to an EndTxn, alone or with its connection."""
    action = chance.choice((Action.DROP, Action.CUT))
    return _meet(harness.kafka, END_TXN, direction=RESPONSE, action=action)


def hold_commit(harness: Harness, _chance: random.Random) -> Evidence:
    """Hold an EndTxn back for longer than one call to commit waits."""
    return harness.provoke(
        RESUMED,
        lambda: _meet(harness.kafka, END_TXN, direction=REQUEST, action=Action.HOLD, seconds=HELD_COMMIT_SECONDS),
    )


def disturb_offsets(harness: Harness, chance: random.Random) -> Evidence:
    """Lose the answer to a TxnOffsetCommit, or hold the request back."""
    if chance.random() < 0.5:  # noqa: PLR2004 - one half
        return _meet(harness.kafka, TXN_OFFSET_COMMIT, direction=RESPONSE, action=Action.DROP)
    return _meet(harness.kafka, TXN_OFFSET_COMMIT, direction=REQUEST, action=Action.HOLD, seconds=HELD_SECONDS)


def disturb_produce(harness: Harness, chance: random.Random) -> Evidence:
    """Lose a batch of events, or the answer to it, or its connection."""
    direction, action = chance.choice(((REQUEST, Action.CUT), (RESPONSE, Action.DROP), (RESPONSE, Action.CUT)))
    return _meet(harness.kafka, PRODUCE, direction=direction, action=action)


def delay(harness: Harness, chance: random.Random) -> Evidence:
    """Have each of many frames take its time."""
    kind = chance.choice((PRODUCE, FETCH, END_TXN))
    with _ruled(
        harness.kafka, kind, direction=REQUEST, action=Action.HOLD, seconds=LATENCY_SECONDS, times=LATE_FRAMES
    ) as rule:
        deadline = time.monotonic() + FIRED_SECONDS_MAX
        while len(rule.frames) < LATE_FRAMES and time.monotonic() < deadline:
            time.sleep(LATENCY_SECONDS)
        if not rule.frames:
            raise VoidRunError(f"no request {kind} could be delayed")
        return {"frame": kind, "frames": len(rule.frames), "seconds": LATENCY_SECONDS}


def reset(harness: Harness, _chance: random.Random) -> Evidence:
    """End every connection to the broker at once."""
    open_now = harness.wait(lambda: len(harness.kafka.upstream_ports), "a connection to end")
    harness.kafka.cut()
    return {"connections": open_now}


def part_from_broker(harness: Harness, chance: random.Random) -> Evidence:
    """Let nothing through to the broker and back, for longer than the session."""
    return _part(harness, harness.kafka, chance)


def part_from_database(harness: Harness, chance: random.Random) -> Evidence:
    """Let nothing through to the database and back."""
    return _part(harness, harness.postgres, chance)


def _part(harness: Harness, relay: Relay, chance: random.Random) -> Evidence:
    seconds = chance.uniform(*PARTITION_SECONDS)
    harness.wait(lambda: relay.upstream_ports, "a connection to part")
    relay.partition()
    try:
        time.sleep(seconds)
    finally:
        connections = len(relay.upstream_ports)
        relay.heal()
    return {"seconds": round(seconds, 2), "connections": connections}


def cut_at_commit(harness: Harness, chance: random.Random) -> Evidence:
    """End the database connection just before a COMMIT arrives, or just before its answer does."""
    direction = chance.choice((REQUEST, RESPONSE))
    return _meet(harness.postgres, COMMIT, direction=direction, action=Action.CUT)


FAULTS = (
    Fault("commit's answer lost", Hurts.WIRE, lose_commit_answer),
    Fault("commit held", Hurts.WIRE, hold_commit),
    Fault("offsets lost or late", Hurts.WIRE, disturb_offsets),
    Fault("events lost on the way", Hurts.WIRE, disturb_produce),
    Fault("latency", Hurts.WIRE, delay),
    Fault("reset", Hurts.WIRE, reset),
    Fault("partition from the broker", Hurts.WIRE, part_from_broker),
    Fault("partition from the database", Hurts.WIRE, part_from_database),
    Fault("database cut at COMMIT", Hurts.WIRE, cut_at_commit),
)
