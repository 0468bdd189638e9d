"""The schedule follows from the seed alone; a run that did too little proves nothing; paths are read from logs."""

from collections import Counter
from itertools import pairwise

import pytest

from chaos.faults import FAULTS, ON_EACH_CHANGE, Hurts
from chaos.nemesis import FAULTS_MIN, KINDS_MIN, LEAST_ON_EACH_CHANGE, MINUTES, schedule, shortcomings
from chaos.paths import (
    ABORTABLE,
    BISECTED,
    FENCED,
    REBALANCED,
    RECONNECTED,
    REQUIRED,
    RESUMED,
    TAINTED,
    paths_in,
)
from chaos.schedule import WINDOW_SECONDS
from chaos.schedule import schedule as deal
from chaos.soak import CERTAIN, plan

SECONDS = 60 * MINUTES
OF_THE_LOAD = ("duplicates", "late and early orders", "same key at once")


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_the_same_seed_gives_the_same_schedule_twice(seed: int) -> None:
    """M4."""
    assert schedule(seed, SECONDS) == schedule(seed, SECONDS)


def test_another_seed_gives_another_schedule() -> None:
    assert len({schedule(seed, SECONDS) for seed in range(20)}) == 20


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short = schedule(7, SECONDS)
    assert schedule(7, 4 * SECONDS)[: len(short)] == short


@pytest.mark.parametrize("seed", range(50))
def test_every_kind_falls_within_two_minutes(seed: int) -> None:
    """At least 50 kinds, whatever the seed, with those of the load itself."""
    planned = schedule(seed, SECONDS)
    assert {each.kind for each in planned} == set(FAULTS)
    assert len(planned) >= FAULTS_MIN
    assert len(FAULTS) + len(OF_THE_LOAD) >= KINDS_MIN


@pytest.mark.parametrize("seed", range(50))
def test_what_falls_on_each_change_needs_no_procedure_and_leaves_no_kind_out(seed: int) -> None:
    planned = schedule(seed, SECONDS, nightly=False)
    assert {each.kind for each in planned} == set(ON_EACH_CHANGE)
    assert len(ON_EACH_CHANGE) >= LEAST_ON_EACH_CHANGE
    assert not any(FAULTS[kind].alone or FAULTS[kind].ends_all for kind in ON_EACH_CHANGE)


def test_what_makes_no_sense_twice_falls_once() -> None:
    planned = Counter(each.kind for each in deal(1, 60 * SECONDS, ("a", "b", "c"), once=("b",)))
    assert planned["b"] == 1
    assert planned["a"] > 100


@pytest.mark.parametrize("minutes", [3, 30])
def test_a_soak_does_for_certain_what_happens_to_a_pipeline_once(minutes: int) -> None:
    """One growth of partitions, one restore, one freeze; what ends long lives comes before these are measured."""
    seconds = 60.0 * minutes
    planned = plan(1, seconds)
    certain = [each for each in planned if each.kind in CERTAIN]
    assert "everything frozen" in CERTAIN
    assert [each.kind for each in certain] == CERTAIN
    assert all(each.at < seconds / 4 for each in certain)
    assert planned == sorted(planned)


@pytest.mark.parametrize("seed", range(20))
def test_the_last_quarter_of_each_window_is_calm(seed: int) -> None:
    planned = schedule(seed, SECONDS)
    assert all(each.at % WINDOW_SECONDS <= WINDOW_SECONDS * 3 / 4 for each in planned)
    assert all(former.at <= later.at for former, later in pairwise(planned))


def test_every_window_has_a_mix_of_its_own() -> None:
    planned = schedule(3, SECONDS)
    hands = [frozenset(each.kind for each in planned if each.at // WINDOW_SECONDS == window) for window in range(6)]
    assert len(set(hands)) == len(hands)


def test_every_victim_is_hurt() -> None:
    assert {fault.hurts for fault in FAULTS.values()} == set(Hurts)


def test_a_run_without_one_of_the_recovery_paths_proves_nothing() -> None:
    """M2."""
    faults = [{"kind": kind} for kind in (*OF_THE_LOAD, *(each.kind for each in schedule(1, SECONDS)))]
    assert not shortcomings(faults, dict.fromkeys(REQUIRED, 1))
    for path in REQUIRED:
        (found,) = shortcomings(faults, {**dict.fromkeys(REQUIRED, 1), path: 0})
        assert path in found


def test_a_run_of_too_few_faults_proves_nothing() -> None:
    assert shortcomings([{"kind": "kill"}] * FAULTS_MIN, dict.fromkeys(REQUIRED, 1))


def test_each_recovery_path_is_known_by_its_line() -> None:
    def unsure(call: str, kind: str, error: str) -> dict[str, object]:
        return {"event": "transaction.unsure", "call": call, "kind": kind, "error": error}

    def recovery(cause: str, *, rebuild: bool = False) -> dict[str, object]:
        return {"event": "recovery.started", "cause": cause, "rebuild": rebuild}

    lines: list[dict[str, object]] = [
        recovery("start", rebuild=True),
        recovery("assignment"),
        unsure("commit", "retriable", "_TIMED_OUT"),
        {"event": "batch.committed"},
        recovery("commit", rebuild=True),
        recovery("assignment"),
        unsure("publish", "abortable", "UNKNOWN_MEMBER_ID"),
        recovery("unsure end", rebuild=True),
        unsure("commit", "fatal", "_FENCED"),
        recovery("unsure end", rebuild=True),
        {"event": "work.failed", "failure": "connection"},
        {"event": "work.failed", "failure": "contention"},
        {"event": "record.dead_lettered", "error_class": "database"},
        {"event": "record.dead_lettered", "error_class": "decode"},
    ]
    assert Counter(paths_in(lines)) == dict.fromkeys(
        (RESUMED, TAINTED, REBALANCED, ABORTABLE, FENCED, RECONNECTED, BISECTED), 1
    )


def test_a_commit_that_stays_unsure_was_not_resumed() -> None:
    lines: list[dict[str, object]] = [
        {"event": "transaction.unsure", "call": "commit", "kind": "retriable", "error": "_TIMED_OUT"},
        {"event": "recovery.started", "cause": "unsure end", "rebuild": True},
        {"event": "batch.committed"},
    ]
    assert not list(paths_in(lines))


def test_the_first_share_after_a_start_is_no_rebalance() -> None:
    start: list[dict[str, object]] = [
        {"event": "recovery.started", "cause": "start", "rebuild": True},
        {"event": "recovery.started", "cause": "assignment", "rebuild": False},
    ]
    assert not list(paths_in([*start, *start]))
