"""What an incremental audit remembers comes back equal, or is refused; half a run is none."""

import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from audit.books import (
    Books,
    Counting,
    Created,
    DeadLetter,
    Lacking,
    Misfit,
    Outcome,
    Partial,
    Poison,
    Sent,
    Total,
    Undecodable,
    Verdict,
)
from audit.facts import LISTED, Fact
from audit.memory import Memory, MemoryRefusedError, Position
from audit.readers.avro import Registry
from audit.readers.collector import Collector
from audit.readers.table_digests import bucket_of, digits_for
from audit.terms import Coordinate, Spot
from onceloop.errors import ExitCode, ReportedError

IDENTITY = {"cluster": "one", "topic orders.created": "id"}
AT, EVENT_AT = Coordinate("orders.created", 3, 17), Coordinate("inventory.reserved", 3, 5)
RESERVED, FAILED = Spot("inventory.reserved", 3), Spot("inventory.failed", 3)
ID, OTHER = "0198c5d2-7c5e-7f10-8a30-5b1f6f0d9c11", "0298c5d2-7c5e-7f10-8a30-5b1f6f0d9c11"
CREATED = Created(3, 17, ID, b"digest", 1 << 55, "ada", 1_800_000_000_000, b"request")
EVENT = Outcome(
    Verdict.RESERVED, 3, 5, ID, "event", "header", b"d", AT, 60_000, 4, "ada", 1 << 55, 60_001, 60_002, None
)
LACKING = Lacking("other", "mug", 3, 0)
FAILURE = Outcome(Verdict.FAILED, 3, 9, OTHER, "e", "h", b"d", None, 60_000, 2, "bob", 7, 60_001, 60_002, LACKING)
SENT = Sent(3, 2, ID, "n", "order_confirmed", "log", EVENT_AT, "ada", 7)


def collector(fresh: Sequence[Fact] = ()) -> Collector:
    found = Collector(Registry("http://nowhere.invalid"), namespace="")
    found.fresh.extend(fresh)
    return found


def opened(path: Path, *, from_start: bool = False, identity: Mapping[str, str] = IDENTITY) -> Memory:
    return Memory(path, from_start=from_start, identity=identity)


def keep(memory: Memory, found: Collector, *, commit: bool = True) -> None:
    memory.put(
        found,
        positions={AT.spot: Position(4, 18, 17), RESERVED: Position(0, 7, None)},
        digests={("inventory.decision", bucket_of(ID, 9)): (1, -5)},
        still_open={bucket_of(ID, 9)},
        sound=True,
        judged_at="now",
    )
    if commit:
        memory.commit()


def test_what_is_remembered_comes_back_equal(tmp_path: Path) -> None:
    lists = {
        "poison": [Poison(AT, b"digest", "magic", b"headers")],
        "partials": [Partial(4, RESERVED, 60_000, 1, 0, 2, 0, 8)],
        "totals": [Total(2, 60_000, 1, 1, 0, 2, 0, 1)],
        "dead_letters": [
            DeadLetter(EVENT_AT, AT, b"d", ("dlq_reason",), b"v", b"h"),
            DeadLetter(EVENT_AT, None, None, ()),
        ],
        "undecodable": [Undecodable(AT, "magic")],
        "misfits": [Misfit(AT, ID, "key")],
    }
    assert lists.keys() == LISTED.keys()
    found = collector([CREATED, EVENT, FAILURE, SENT])
    for kind, facts in lists.items():
        getattr(found, kind).extend(facts)
    with opened(tmp_path / "memory") as memory:
        keep(memory, found)

    again = collector()
    with opened(tmp_path / "memory") as memory:
        memory.recall_lists(again)
        memory.recall(again, memory.buckets())
        assert memory.positions() == {AT.spot: Position(4, 18, 17), RESERVED: Position(0, 7, None)}
        assert memory.digests() == {("inventory.decision", bucket_of(ID, 9)): (1, -5)}
        assert (memory.open_buckets(), memory.sound, memory.judged_at) == ({bucket_of(ID, 9)}, True, "now")
    assert {kind: getattr(again, kind) for kind in lists} == lists
    assert again.created == {ID: (CREATED,)}
    assert again.outcomes == {ID: (EVENT,), OTHER: (FAILURE,)}
    assert again.sent == {ID: (SENT,)}


def test_memory_is_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        with opened(tmp_path / "memory") as memory:
            keep(memory, collector([CREATED]))
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "memory").stat().st_mode) == 0o600


def test_memory_that_an_earlier_release_left_open_is_closed(tmp_path: Path) -> None:
    """Red before: it stayed readable by every user of the machine, and it names customers."""
    path = tmp_path / "memory"
    with opened(path) as memory:
        keep(memory, collector([CREATED]))
    path.chmod(0o644)
    with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_remembered_records_stand_before_those_that_were_read_since(tmp_path: Path) -> None:
    with opened(tmp_path / "memory") as memory:
        keep(memory, collector([CREATED]))
    copy = CREATED._replace(offset=40)
    found = collector([copy])
    found.created[ID] = (copy,)
    with opened(tmp_path / "memory") as memory:
        memory.recall(found, [bucket_of(ID, 9)])

    assert found.created[ID] == (CREATED, copy)


def test_a_run_that_ends_before_it_is_over_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    with opened(path) as memory:
        keep(memory, collector([CREATED]))
    for from_start in (False, True):
        with opened(path, from_start=from_start) as memory:
            keep(memory, collector([EVENT]), commit=False)
    again = collector()
    with opened(path) as memory:
        memory.recall(again, memory.buckets())

    assert (again.created, again.outcomes) == ({ID: (CREATED,)}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["memory"]


def test_the_memory_of_another_pipeline_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with opened(tmp_path / "memory") as memory:
        keep(memory, collector())

    for name, value in IDENTITY.items():
        with pytest.raises(MemoryRefusedError, match=f"{name} was {value}, and is another") as refused:
            opened(tmp_path / "memory", identity={**IDENTITY, name: "another"})
        assert "pipeline verify --since start" in refused.value.cure
        assert refused.value.exit_code == ExitCode.CONFIG  # red before: 1, as if a rule of the books were broken


def test_the_memory_of_another_version_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "memory") as memory:
        keep(memory, collector())
    with sqlite3.connect(tmp_path / "memory") as connection:
        connection.execute("UPDATE meta SET value = '0' WHERE name = 'version'")
    connection.close()

    with pytest.raises(MemoryRefusedError, match="another version"):
        opened(tmp_path / "memory")


def test_a_file_that_is_no_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("something else entirely, and long enough to be looked at" * 20)

    with pytest.raises(MemoryRefusedError, match="cannot be read"):
        opened(tmp_path / "memory")


def test_two_runs_do_not_share_a_memory(tmp_path: Path) -> None:
    with opened(tmp_path / "memory") as memory:
        keep(memory, collector())

    with opened(tmp_path / "memory"), pytest.raises(ReportedError, match="another verify is at work"):
        opened(tmp_path / "memory")


def test_remembered_outcomes_are_summed_up_as_far_as_they_are_counted(tmp_path: Path) -> None:
    """Aim: one is not read yet, one put aside as a dead letter, one of a minute that is open."""
    events = [
        EVENT,
        EVENT._replace(offset=6, order_id=OTHER),
        EVENT._replace(offset=7, order_id=OTHER),
        EVENT._replace(offset=8, order_id=OTHER, minute=120_000),
        EVENT._replace(offset=12, order_id=OTHER),
        FAILURE,
    ]
    letter = Coordinate(*RESERVED, 7)
    books = Books(
        counting={RESERVED: Counting(10, 120_000), FAILED: Counting(10, 120_000)},
        dead_letters=(DeadLetter(AT, letter, None, ()),),
        overdue={RESERVED: 20, FAILED: 20},
        overdue_ms=180_000,
    )
    with opened(tmp_path / "memory") as memory:
        memory.put(collector(events), positions={}, digests={}, still_open=(), sound=True, judged_at="now")

        assert memory.counted(books, {letter}.__contains__) == {
            (RESERVED, 60_000): (2, 0, 8),
            (FAILED, 60_000): (0, 1, 0),
        }
        assert memory.overdue(books, {letter}.__contains__) == {(RESERVED, 60_000): 1, (RESERVED, 120_000): 1}


@pytest.mark.parametrize(
    ("orders", "first", "last", "digits"),
    [
        (0, "", "", 13),
        (100_000, "01a22b95-7c52-7277", "01a22b95-ce5a-7277", 12),
        (100_000, "01a22b95-7c52-7277", "01a22b9b-3251-7277", 11),
        (100_000, "01a1f000-7c52-7277", "01a22b9b-3251-7277", 7),
        (100_000, "00000000-7c52-7277", "ffffffff-3251-7277", 4),
    ],
    ids=["none", "of 21 s", "of six minutes", "of a month", "without a time"],
)
def test_buckets_are_small_and_not_too_many(orders: int, first: str, last: str, digits: int) -> None:
    assert digits_for(orders, first, last) == digits
