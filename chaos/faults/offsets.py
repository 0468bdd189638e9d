"""Offsets that are set by hand: the product refuses to go on from there, and the runbook's procedure mends it."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from audit.readers.cluster import EARLIEST, LATEST, Cluster, at_time
from audit.terms import Offsets, Spot
from chaos.faults.harness import MENDED_SECONDS_MAX, Act, Evidence, Fault, Harness, Hurts
from chaos.run.findings import VoidRunError
from chaos.run.groups import put
from chaos.run.processes import Slot
from common.topics import (
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    METRICS,
    NOTIFICATION,
    ORDERS_CREATED,
    Group,
    Topic,
)

AGO_SECONDS = 5.0
REPAIR_SECONDS_MAX = 30.0
READ_OF: Mapping[Group, tuple[Topic, ...]] = {
    INVENTORY: (ORDERS_CREATED,),
    NOTIFICATION: (INVENTORY_RESERVED, INVENTORY_FAILED),
    METRICS: (INVENTORY_RESERVED, INVENTORY_FAILED),
}
REFUSALS = (
    b"old committed offsets",
    b"lie before what is",
    b"beyond what is decided",
    b"set ahead of its work",
    b"set by hand",
)
"""What a worker says that does not go on from where its group stands."""

Where = Callable[[Cluster, Sequence[Spot]], Offsets]


def _earliest(cluster: Cluster, spots: Sequence[Spot]) -> Offsets:
    return cluster.offsets(spots, EARLIEST)


def _latest(cluster: Cluster, spots: Sequence[Spot]) -> Offsets:
    return cluster.offsets(spots, LATEST)


def _some_time_ago(cluster: Cluster, spots: Sequence[Spot]) -> Offsets:
    """Return where each partition stood some seconds ago; where nothing came since, its end."""
    ends = _latest(cluster, spots)
    found = cluster.offsets(spots, at_time(time.time_ns() // 1_000_000 - round(1000 * AGO_SECONDS)))
    return {spot: offset if offset >= 0 else ends[spot] for spot, offset in found.items()}


def _mended(group: Group, where: Where, repair: Callable[[Harness], object]) -> Act:
    """Set the group; its processes refuse; stop them, repair the offsets by the runbook, start them."""

    def act(harness: Harness, _chance: random.Random) -> Evidence:
        workers = harness.pipeline.slots(group.name)
        with _by_hand(harness, group, workers):
            moved, marks = _set(harness, group, workers, where)
            try:
                refusal = _wait_refused(harness, marks)
            finally:
                with harness.pipeline.parked(*workers):
                    harness.insist(
                        lambda: repair(harness), f"repair the offsets of {group.name}", seconds=MENDED_SECONDS_MAX
                    )
        for slot in workers:
            harness.wait_ready(slot)
        return {"partitions": moved, "refusal": refusal}

    return act


def _by_command(group: Group) -> Callable[[Harness], object]:
    return lambda harness: harness.pipeline.command("offsets", "repair", group.name)


def _repair_counts(harness: Harness) -> None:
    pipeline, log = harness.pipeline, harness.pipeline.folder / "repair.log"
    child = pipeline.launch(("metrics_service", "repair"), log, pipeline.environment(None))
    if code := child.wait(REPAIR_SECONDS_MAX):
        raise VoidRunError(f"the repair of the counts ended with {code}", cure=f"read {log}")


def set_notification_back(harness: Harness, _chance: random.Random) -> Evidence:
    """Set the group to the earliest: no customer is notified twice."""
    workers = harness.pipeline.slots(NOTIFICATION.name)
    with _by_hand(harness, NOTIFICATION, workers):
        moved, _ = _set(harness, NOTIFICATION, workers, _earliest)
    harness.wait_ready(*workers)
    return {"partitions": moved}


@contextmanager
def _by_hand(harness: Harness, group: Group, workers: Sequence[Slot]) -> Iterator[None]:
    """Set a group in this block and mend it: until then no record that it reads is trimmed, wherever it stands.

    The ends of these processes meanwhile are what the fault asks for: they refuse to go on.
    """
    known = [(slot, len(slot.deaths)) for slot in workers]
    harness.moved.add(group)
    try:
        yield
    finally:
        harness.killed |= {death.pid for slot, number in known for death in slot.deaths[number:]}
    harness.moved.discard(group)  # one that was not mended stays among them


def _set(harness: Harness, group: Group, workers: Sequence[Slot], where: Where) -> tuple[int, dict[Path, int]]:
    """Stop all, set the group; return on how many partitions it stands elsewhere, and how long the logs were.

    It must be worth it: another fault may hold the group where heads were trimmed to, or all work that it could miss.
    """
    harness.insist(lambda: _refuse_standstill(harness, group, where), f"{group.name} has moved")
    with harness.stopped(*workers):
        if where is _latest:
            ends = harness.insist(lambda: _target(harness, group, _latest), f"the ends of what {group.name} reads")
            harness.insist(
                lambda: _refuse_nothing_new(harness, group, ends),
                f"records that {group.name} misses",
                seconds=MENDED_SECONDS_MAX,
            )
        moved = harness.insist(lambda: _put(harness, group, where), f"set the group {group.name}")
        marks = {slot.log: slot.log.stat().st_size for slot in workers}
    if not moved:
        harness.moved.discard(group)  # it stands where it stood
        raise VoidRunError(f"{group.name} stood there already")
    return moved, marks


def _put(harness: Harness, group: Group, where: Where) -> int:
    settings = harness.pipeline.settings
    stood, target = Cluster(settings).committed(group), _target(harness, group, where)
    put(settings, group, target)
    return sum(stood.get(spot) != offset for spot, offset in target.items())


def _target(harness: Harness, group: Group, where: Where) -> Offsets:
    cluster = Cluster(harness.pipeline.settings)
    return where(cluster, [spot for topic in READ_OF[group] for spot in cluster.spots(topic)])


def _refuse_standstill(harness: Harness, group: Group, where: Where) -> None:
    """Raises VoidRunError while the group stands where it would be set."""
    stood = Cluster(harness.pipeline.settings).committed(group)
    if all(stood.get(spot) == offset for spot, offset in _target(harness, group, where).items()):
        raise VoidRunError(f"{group.name} stands there already")


def _refuse_nothing_new(harness: Harness, group: Group, ends: Offsets) -> None:
    """Raises VoidRunError until more has come than a marker, which is no work, behind these ends."""
    if all(offset <= ends.get(spot, 0) + 1 for spot, offset in _target(harness, group, _latest).items()):
        raise VoidRunError(f"nothing has come that {group.name} could miss")


def _wait_refused(harness: Harness, marks: Mapping[Path, int]) -> str:
    """Return what the workers said that do not go on from there."""

    def said() -> list[bytes]:
        return [word for log, mark in marks.items() for word in REFUSALS if word in log.read_bytes()[mark:]]

    return harness.pipeline.wait(said, "a word of refusal", seconds=MENDED_SECONDS_MAX)[0].decode()


_INVENTORY_SET = {"the earliest": _earliest, "the latest": _latest, "a time": _some_time_ago}
FAULTS = (
    *(
        Fault(
            f"inventory's offsets set to {what}",
            Hurts.WORKERS,
            _mended(INVENTORY, where, _by_command(INVENTORY)),
            once=True,
            ends_all=True,
        )
        for what, where in _INVENTORY_SET.items()
    ),
    Fault(
        "notification's offsets set ahead",
        Hurts.NOTIFICATION,
        _mended(NOTIFICATION, _latest, _by_command(NOTIFICATION)),
    ),
    Fault("notification's offsets set back", Hurts.NOTIFICATION, set_notification_back),
    Fault("metrics' offsets set ahead", Hurts.METRICS, _mended(METRICS, _latest, _repair_counts)),
)
