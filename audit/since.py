"""Audit what has happened since the last audit, as strictly as if all were read.

Facts of topics are remembered, so only later records are read. Of the tables PostgreSQL makes one digest per bucket of
orders. The rules are asked of every order with a new record, with a bucket whose digest differs, or on its way so far;
of all others both facts and rows are those that were found sound. What no order stands for alone (stock, minutes, dead
letters, the order of events, what offsets say) is judged over everything.
"""

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from audit import whole
from audit.books import Books
from audit.config import CheckerSettings
from audit.memory import Memory, MemoryRefusedError, Position
from audit.readers.cluster import Cluster
from audit.readers.table_digests import KEYS_TABLE, ORDER_TABLES, Digests, bucket_of
from audit.readers.tables import TableReader, Tables
from audit.readers.topics import DOWNSTREAM_FIRST
from audit.rules.judge import Judgement, judge
from audit.rules.minute_rules import LETTERS
from audit.scene import Scene
from audit.terms import Coordinate, Offsets, Spot, below
from audit.waiting import Wait, Waiting
from common.topics import ALL_TOPICS, INVENTORY_FAILED, INVENTORY_RESERVED, NOTIFICATION_SENT, ORDERS_CREATED

LIVENESS = {"L1", "L2"}
"""Rules that say what is late: it is looked at again next time anyway."""


@dataclass(frozen=True, slots=True)
class Since:
    """What an incremental audit looked at. `before`: when the last one ended; empty if this one has read everything."""

    judgement: Judgement
    before: str
    orders: int
    again: int


def audit_since(
    settings: CheckerSettings,
    path: Path,
    *,
    from_start: bool,
    wait_seconds: float,
    followers: bool = True,
    restocked: bool = True,
    report: Callable[[Waiting], None] = lambda _: None,
) -> Since:
    """Wait, read what is new, judge, remember in `path`; `from_start` reads everything and forgets what stood there.

    Raises MemoryRefusedError if the memory is of another pipeline, or records are gone that were read; StoreDownError.
    """
    digits = TableReader(settings).bucket_digits
    with (
        whole.uncollected(),
        Memory(path, from_start=from_start, identity=_identity(settings), digits=digits) as memory,
    ):
        return _Run(settings, memory, everything=not restocked).run(
            wait_seconds=wait_seconds, followers=followers, restocked=restocked, report=report
        )


def _identity(settings: CheckerSettings) -> dict[str, str]:
    cluster = Cluster(settings)
    ids = cluster.topic_ids(ALL_TOPICS)
    return {
        "namespace": settings.namespace or "none",
        "cluster": cluster.identity(),
        "database": TableReader(settings).identity(),
        **{f"topic {name}": topic_id for name, topic_id in ids.items()},
    }


class _Run:
    """One incremental audit. `everything`: all that is remembered is judged again."""

    def __init__(self, settings: CheckerSettings, memory: Memory, *, everything: bool) -> None:
        self._memory = memory
        self._before = memory.positions()
        self._everything = everything or memory.fresh or not memory.sound
        starts = _starts(Cluster(settings), self._before)
        self._scene = Scene(settings, begins=starts)
        self._looked_at: set[str] = set()
        for spot, at in self._before.items():
            if at.next == starts[spot]:  # what retention has taken of it meanwhile is remembered
                self._scene.topics.begins[spot] = at.begin
            if at.last is not None:
                self._scene.topics.last[spot] = at.last

    def run(self, *, wait_seconds: float, followers: bool, restocked: bool, report: Callable[[Waiting], None]) -> Since:
        scene, memory, before = self._scene, self._memory, self._memory.judged_at
        known = memory.digests()
        try:
            memory.recall_lists(scene.found)
            self._look_at(memory.buckets() if self._everything else memory.open_buckets())
            keys, key_digests = scene.tables.changed_keys(
                partial(self._differing, known, {KEYS_TABLE}), digits=memory.digits
            )
            unfinished = Wait(
                scene, followers=followers, minutes=False, stall_seconds=whole.STALL_SECONDS, report=report
            ).run(wait_seconds)
            books, rows = whole.gather(scene, keys, unfinished, read=partial(self._read, known))
        finally:
            scene.topics.close()
        # A key that was acknowledged after the topics were read is none of which a record must be there.
        first = set(keys)
        later = tuple(key._replace(acknowledged=False) for key in rows.keys if key not in first)
        books = self._with_remembered(replace(books, keys=(*keys, *later)))
        judgement = judge(books, restocked=restocked)
        counts = self._remember(books, judgement, {**rows.digests, **key_digests}, replays=rows.replays)
        return Since(
            replace(judgement, counts=counts),
            before,
            orders=len({fact.order_id for fact in scene.found.fresh}),
            again=len(books.created),
        )

    def _read(self, known: Digests, inventory_after: Offsets) -> Tables:
        """Return the rows of all orders that are looked at, as of one moment."""
        self._look_at(self._touched(inventory_after))

        def changed(digests: Digests) -> AbstractSet[str] | None:
            self._differing(known, ORDER_TABLES, digests)
            return None if self._everything else self._looked_at

        return self._scene.tables.read_changed(changed, digits=self._memory.digits)

    def _look_at(self, buckets: AbstractSet[str]) -> None:
        """Have the orders of these buckets judged: recall their records."""
        more = buckets - self._looked_at
        self._memory.recall(self._scene.found, more)
        self._looked_at |= more

    def _differing(self, known: Digests, names: AbstractSet[str], digests: Digests) -> AbstractSet[str] | None:
        """Look at the buckets whose rows are not those that were judged; return them, None for all."""
        keys = {key for key in known if key[0] in names} | digests.keys()
        differing = {key[1] for key in keys if known.get(key) != digests.get(key)}
        self._look_at(differing)
        return None if self._everything else differing

    def _touched(self, inventory_after: Offsets) -> set[str]:
        """Return the buckets that news concern, of records or of offsets that went back."""
        memory, found = self._memory, self._scene.found
        touched = {bucket_of(fact.order_id, memory.digits) for fact in found.fresh}
        touched |= memory.buckets_at(letter.source for letter in found.dead_letters if letter.source)
        for stream in memory.streams():
            touched |= memory.buckets_at([Coordinate(*stream.at, stream.last)])
            answers = stream.at, stream.source
            found.first_answers[answers] = min(stream.first, found.first_answers.get(answers, stream.first))
            if stream.highest >= inventory_after.get(stream.source, 0):
                touched |= memory.buckets_answering(stream.source, above=inventory_after.get(stream.source, 0))
        return touched

    def _with_remembered(self, books: Books) -> Books:
        """Add what counts of remembered outcomes of which no event is among these books."""
        letters = {letter.source for letter in books.dead_letters if letter.at.topic in LETTERS.values()}
        return replace(
            books,
            recorded_to={spot: at.next for spot, at in self._before.items()},
            recorded=self._memory.counted(books, letters.__contains__),
            waiting=self._memory.overdue(books, letters.__contains__),
        )

    def _remember(self, books: Books, judgement: Judgement, digests: Digests, *, replays: int) -> dict[str, int]:
        """Save; return what the verdict is over: everything that was read, now and before."""
        topics, found, memory = self._scene.topics, self._scene.found, self._memory
        memory.put(
            found,
            positions={
                spot: Position(topics.begins[spot], at, topics.last.get(spot)) for spot, at in topics.positions.items()
            },
            digests=digests,
            still_open={bucket_of(order_id, memory.digits) for order_id in _open(books)},
            sound=not any(ruling.broken for ruling in judgement.rulings if ruling.invariant not in LIVENESS),
            judged_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        counts = memory.counts()
        memory.commit()
        return {
            "orders": counts[f"{ORDERS_CREATED.name} orders"],
            "records": counts[ORDERS_CREATED.name] + len(books.poison),
            "reserved": counts[INVENTORY_RESERVED.name],
            "failed": counts[INVENTORY_FAILED.name],
            "notified": counts[f"{NOTIFICATION_SENT.name} orders"],
            "minutes": judgement.counts["minutes"],
            "dead_letters": judgement.counts["dead_letters"],
            "replays": replays,
        }


def _starts(cluster: Cluster, before: Mapping[Spot, Position]) -> dict[Spot, int]:
    """Return where to read on. Raises MemoryRefusedError where records are gone at the end of a partition."""
    starts, ends = dict(cluster.begins(DOWNSTREAM_FIRST)), cluster.ends(DOWNSTREAM_FIRST)
    for spot, at in before.items():
        if ends.get(spot, 0) < at.next:
            end = ends.get(spot, "nowhere")
            raise MemoryRefusedError(
                f"{spot.topic} {spot.partition} ends at {end}, but was read to {at.next}: records are gone"
            )
        starts[spot] = max(starts[spot], at.next)
    return starts


def _open(books: Books) -> Iterator[str]:
    """Yield the orders of which a rule may yet ask more, although nothing of them changes but offsets."""
    dead = {letter.source for letter in books.dead_letters}
    for order_id in books.created.keys() | books.outcomes.keys() | books.decisions.keys() | books.statuses.keys():
        if not _settled(order_id, books, dead):
            yield order_id


def _settled(order_id: str, books: Books, dead: AbstractSet[Coordinate | None]) -> bool:
    """Return True if each reader has read each record that it has of the order, and left what it should."""
    progress = books.progress
    copies, events = books.created.get(order_id, ()), books.outcomes.get(order_id, ())
    status, sent = books.statuses.get(order_id), books.sent.get(order_id, ())
    places = [*(copy.at for copy in copies), *(event.at for event in events), *(record.at for record in sent)]
    return (
        len(events) == 1
        and bool(copies and sent)
        and order_id in books.decisions
        and status is not None
        and status.status != "pending"
        and status.notified_at is not None
        and all(below(copy.at, progress.inventory_before) or copy.at in dead for copy in copies)
        and below(events[0].at, progress.notification)
        and all(below(at, progress.projection) for at in places)
    )
