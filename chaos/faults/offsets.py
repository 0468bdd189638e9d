"""Offsets that are set by hand: the product refuses to go on from there, and the runbook's procedure mends it."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from audit.readers.cluster import EARLIEST, LATEST, Cluster, at_time
from audit.terms import Offsets, Spot
from chaos.faults.harness import MENDED_SECONDS_MAX, Act, Evidence, Fault, Field, Hurts
from chaos.run.groups import put
from chaos.run.pipeline import Kept, VoidRunError
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


def _mended(group: Group, where: Where, repair: Callable[[Field], object]) -> Act:
    """Set the group; its processes refuse; stop them, repair the offsets by the runbook, start them."""

    def act(field: Field, _chance: random.Random) -> Evidence:
        workers = _processes(field, group)
        with _by_hand(field, group, workers):
            moved, marks = _set(field, group, workers, where)
            try:
                refusal = _wait_refused(field, marks)
            finally:
                with field.lane.parked(*workers):
                    field.insist(
                        lambda: repair(field), f"repair the offsets of {group.name}", seconds=MENDED_SECONDS_MAX
                    )
        for kept in workers:
            field.wait_ready(kept)
        return {"partitions": moved, "refusal": refusal}

    return act


def _by_command(group: Group) -> Callable[[Field], object]:
    return lambda field: field.lane.site.pipeline("offsets", "repair", group.name)


def _repair_counts(field: Field) -> None:
    site = field.lane.site
    child = site.start(("metrics_service", "repair"), site.folder / "repair.log", site.environment(None))
    if code := child.wait(REPAIR_SECONDS_MAX):
        raise VoidRunError(f"the repair of the counts ended with {code}", cure=f"read {site.folder / 'repair.log'}")


def set_notification_back(field: Field, _chance: random.Random) -> Evidence:
    """Set the group to the earliest: no customer is notified twice."""
    workers = _processes(field, NOTIFICATION)
    with _by_hand(field, NOTIFICATION, workers):
        moved, _ = _set(field, NOTIFICATION, workers, _earliest)
    for kept in workers:
        field.wait_ready(kept)
    return {"partitions": moved}


def _processes(field: Field, group: Group) -> list[Kept]:
    return [kept for kept in field.lane.processes() if kept.name == group.name]


@contextmanager
def _by_hand(field: Field, group: Group, processes: Sequence[Kept]) -> Iterator[None]:
    """Set a group in this block and mend it: until then no record that it reads is trimmed, wherever it stands.

    The ends of these processes meanwhile are what the fault asks for: they refuse to go on.
    """
    known = [(kept, len(kept.deaths)) for kept in processes]
    field.moved.add(group)
    try:
        yield
    finally:
        field.killed |= {death.pid for kept, number in known for death in kept.deaths[number:]}
    field.moved.discard(group)  # one that was not mended stays among them


def _set(field: Field, group: Group, workers: Sequence[Kept], where: Where) -> tuple[int, dict[Path, int]]:
    """Stop all, set the group; return on how many partitions it stands elsewhere, and how long the logs were.

    It must be worth it: another fault may hold the group where heads were trimmed to, or all work that it could miss.
    """
    field.insist(lambda: _refuse_standstill(field, group, where), f"{group.name} has moved")
    with field.stopped(*workers):
        if where is _latest:
            ends = field.insist(lambda: _target(field, group, _latest), f"the ends of what {group.name} reads")
            field.insist(
                lambda: _refuse_nothing_new(field, group, ends),
                f"records that {group.name} misses",
                seconds=MENDED_SECONDS_MAX,
            )
        moved = field.insist(lambda: _put(field, group, where), f"set the group {group.name}")
        marks = {kept.log: kept.log.stat().st_size for kept in workers}
    if not moved:
        field.moved.discard(group)  # it stands where it stood
        raise VoidRunError(f"{group.name} stood there already")
    return moved, marks


def _put(field: Field, group: Group, where: Where) -> int:
    settings = field.lane.site.settings
    stood, target = Cluster(settings).committed(group), _target(field, group, where)
    put(settings, group, target)
    return sum(stood.get(spot) != offset for spot, offset in target.items())


def _target(field: Field, group: Group, where: Where) -> Offsets:
    cluster = Cluster(field.lane.site.settings)
    return where(cluster, [spot for topic in READ_OF[group] for spot in cluster.spots(topic)])


def _refuse_standstill(field: Field, group: Group, where: Where) -> None:
    """Raises VoidRunError while the group stands where it would be set."""
    stood = Cluster(field.lane.site.settings).committed(group)
    if all(stood.get(spot) == offset for spot, offset in _target(field, group, where).items()):
        raise VoidRunError(f"{group.name} stands there already")


def _refuse_nothing_new(field: Field, group: Group, ends: Offsets) -> None:
    """Raises VoidRunError until more has come than a marker, which is no work, behind these ends."""
    if all(offset <= ends.get(spot, 0) + 1 for spot, offset in _target(field, group, _latest).items()):
        raise VoidRunError(f"nothing has come that {group.name} could miss")


def _wait_refused(field: Field, marks: Mapping[Path, int]) -> str:
    """Return what the workers said that do not go on from there."""

    def said() -> list[bytes]:
        return [word for log, mark in marks.items() for word in REFUSALS if word in log.read_bytes()[mark:]]

    field.lane.wait(lambda: bool(said()), "a word of refusal", seconds=MENDED_SECONDS_MAX)
    return said()[0].decode()


_REPAIR_INVENTORY = _by_command(INVENTORY)
FAULTS = (
    Fault(
        "inventory's offsets set to the earliest",
        Hurts.WORKERS,
        _mended(INVENTORY, _earliest, _REPAIR_INVENTORY),
        once=True,
        ends_all=True,
    ),
    Fault(
        "inventory's offsets set to the latest",
        Hurts.WORKERS,
        _mended(INVENTORY, _latest, _REPAIR_INVENTORY),
        once=True,
        ends_all=True,
    ),
    Fault(
        "inventory's offsets set to a time",
        Hurts.WORKERS,
        _mended(INVENTORY, _some_time_ago, _REPAIR_INVENTORY),
        once=True,
        ends_all=True,
    ),
    Fault(
        "notification's offsets set ahead",
        Hurts.NOTIFICATION,
        _mended(NOTIFICATION, _latest, _by_command(NOTIFICATION)),
    ),
    Fault("notification's offsets set back", Hurts.NOTIFICATION, set_notification_back),
    Fault("metrics' offsets set ahead", Hurts.METRICS, _mended(METRICS, _latest, _repair_counts)),
)
