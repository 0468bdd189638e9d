"""Audit a pipeline: wait until what was accepted has come through, read the books in an order that is sound, judge.

What was accepted when the audit began is waited for; what comes in meanwhile is judged only as far as it has come.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Self

from chaos.checker.avro import Registry
from chaos.checker.books import AcknowledgedKey, Books, Progress, Stall, Unfinished
from chaos.checker.cluster import Cluster
from chaos.checker.collector import Collector, Record
from chaos.checker.config import CheckerSettings
from chaos.checker.counting import LATEST_SECONDS, added_to, counted_to, overdue_at
from chaos.checker.evidence import Evidence
from chaos.checker.judge import Judgement, judge
from chaos.checker.minute_rules import uncounted
from chaos.checker.second_reading import Census, count_in, reread
from chaos.checker.tables import TableReader
from chaos.checker.terms import Coordinate, Offsets, below
from chaos.checker.testimony import Testimony
from chaos.checker.topics import DOWNSTREAM_FIRST, TopicReader
from common.topics import (
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    NOTIFICATION,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
)

STALL_SECONDS = 30.0
"""How long a partition may stand still below its end: more than a transaction time-out and the broker's sweep."""
TURN_SECONDS = 0.25

OUTCOMES = (INVENTORY_RESERVED.name, INVENTORY_FAILED.name)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How far the wait has come: how many orders were read, and how many of them have what they need."""

    orders: int
    outcomes: int
    notified: int
    statuses: int


def audit(
    settings: CheckerSettings,
    *,
    wait_seconds: float,
    followers: bool = True,
    minutes: bool = False,
    restocked: bool = True,
    evidence: Evidence | None = None,
    report: Callable[[Waiting], None] = lambda _: None,
) -> Judgement:
    """Open an auditor, have it audit once; see `Auditor.audit`."""
    with Auditor(settings) as auditor:
        return auditor.audit(
            wait_seconds=wait_seconds,
            followers=followers,
            minutes=minutes,
            restocked=restocked,
            evidence=evidence,
            report=report,
        )


class Auditor:
    """Audits one pipeline, as often as it is asked.

    Everything is judged each time: all records, all rows, all evidence. Records that it has read before it does not
    read again, since they do not change; whether they can be trusted is what a second reading asks.
    """

    def __init__(self, settings: CheckerSettings) -> None:
        self._settings = settings
        self._scene: _Scene | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def audit(
        self,
        *,
        wait_seconds: float,
        followers: bool = True,
        minutes: bool = False,
        restocked: bool = True,
        evidence: Evidence | None = None,
        report: Callable[[Waiting], None] = lambda _: None,
    ) -> Judgement:
        """Wait, read, judge. `followers=False` waits for outcomes alone: nobody notifies or projects there.

        `minutes` also waits until every outcome is counted and added up, so until its minute is over.

        `evidence` tells what topics and tables do not hold, of everything that ever happened to this pipeline: whoever
        gives it has ended the load before. It also has the rules asked that judge nothing else; `Judgement.idle` names
        those that were given nothing.

        Raises StoreDownError if broker, registry or database does not answer, OSError if a file of the evidence is
        missing; the next audit then reads everything anew.
        """
        try:
            with _uncollected():
                scene = self._opened(counting=evidence is not None and evidence.reread)
                # Both come first: whatever they tell was there before the topics are read.
                testimony = evidence.testimony() if evidence is not None else None
                keys = scene.tables.acknowledged_keys()
                unfinished = _Wait(scene, followers=followers, minutes=minutes, report=report).run(wait_seconds)
                books = _books(scene, keys, unfinished, testimony)
                books = replace(books, minutes_over=minutes and testimony is not None)
                if testimony is not None and scene.counting:
                    rereading = reread(self._settings, begins=scene.begins, ends=books.ends, first=scene.census)
                    books = replace(books, testimony=replace(testimony, rereading=rereading))
                return judge(books, restocked=restocked)
        except BaseException:
            self._close()
            raise

    def _opened(self, *, counting: bool) -> "_Scene":
        """Return what is looked at; from the beginning, if each record is to be counted and was not so far."""
        if self._scene is None or (counting and not self._scene.counting):
            self._close()
            self._scene = _Scene(self._settings, counting=counting)
        return self._scene

    def _close(self) -> None:
        if self._scene is not None:
            self._scene.topics.close()
            self._scene = None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the cycle collector out: it would walk millions of small tuples, which hold no cycles, again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Scene:
    """What is looked at: the cluster, the topics as far as they were read, the tables."""

    def __init__(self, settings: CheckerSettings, *, counting: bool) -> None:
        self.cluster = Cluster(settings)
        self.tables = TableReader(settings)
        self.found = Collector(Registry(settings.registry_url), namespace=settings.namespace)
        self.begins = self.cluster.begins(DOWNSTREAM_FIRST)
        self.counting = counting
        self.census: Census = {}
        self.topics = TopicReader(self.cluster, self.begins, self._count if counting else self.found.take)

    def read(self, *, seconds: float) -> tuple[Offsets, tuple[Stall, ...]]:
        """Read all topics to their present ends; return these, and what is held back after so long."""
        ends = self.cluster.ends(DOWNSTREAM_FIRST)
        return ends, self.topics.read_to(ends, seconds=seconds)

    def held_back(self, ends: Offsets, *, seconds: float) -> tuple[Stall, ...]:
        """Return the partitions whose stable end stays below these ends for so long, by the broker's own word."""
        deadline = time.monotonic() + seconds
        while True:
            stable = self.cluster.stable_ends(DOWNSTREAM_FIRST)
            behind = [spot for spot, end in ends.items() if stable[spot] < end]
            if not behind or time.monotonic() > deadline:
                return tuple(Stall(Coordinate(*spot, stable[spot]), ends[spot]) for spot in behind)
            time.sleep(TURN_SECONDS)

    def _count(self, record: Record) -> None:
        count_in(self.census, record)
        self.found.take(record)


def _books(
    scene: _Scene,
    keys: tuple[AcknowledgedKey, ...],
    unfinished: tuple[Unfinished, ...],
    testimony: Testimony | None,
) -> Books:
    """Read what is left to read: offsets, topics, offsets, tables. See `Books` for why in this order."""
    added, counting = added_to(scene.cluster), counted_to(scene.cluster)
    overdue_ms = round((time.time() - LATEST_SECONDS) * 1000)
    inventory_before = scene.cluster.committed(INVENTORY)
    notification = scene.cluster.committed(NOTIFICATION)
    ends, stalls = scene.read(seconds=STALL_SECONDS)
    # A pending offset hangs on a transaction that is a stall itself; whatever it covers is below the end.
    inventory_after = scene.cluster.committed_stable(INVENTORY, seconds=STALL_SECONDS) or ends
    stalls = stalls or scene.held_back(ends, seconds=STALL_SECONDS)
    rows = scene.tables.read(keys=testimony is not None)
    return Books(
        created=scene.found.created,
        poison=tuple(scene.found.poison),
        outcomes=scene.found.outcomes,
        sent=scene.found.sent,
        partials=tuple(scene.found.partials),
        totals=tuple(scene.found.totals),
        dead_letters=tuple(scene.found.dead_letters),
        undecodable=tuple(scene.found.undecodable),
        stalls=stalls,
        begins=scene.begins,
        ends=ends,
        keys=keys,
        key_orders=rows.key_orders,
        decisions=rows.decisions,
        stock=rows.stock,
        statuses=rows.statuses,
        ledger=rows.ledger,
        counting=counting,
        added_to=added,
        overdue=overdue_at(scene.cluster, overdue_ms) if counting else {},
        overdue_ms=overdue_ms,
        progress=Progress(
            inventory_before=inventory_before,
            inventory_after=inventory_after,
            notification=notification,
            projection=rows.projection,
        ),
        unfinished=unfinished,
        testimony=testimony,
    )


class _Wait:
    """Wait until each order that is on the topic at the start has its outcome, and each outcome its followers."""

    def __init__(self, scene: _Scene, *, followers: bool, minutes: bool, report: Callable[[Waiting], None]) -> None:
        self._scene = scene
        self._followers = followers
        self._minutes = minutes
        self._report = report
        self._accepted: Offsets = {}
        self._notification: Offsets = {}
        self._projection: Offsets = {}
        # Where the followers must get to; known once those before them are through.
        self._outcomes: Offsets | None = None
        self._told: Offsets | None = None

    def run(self, seconds: float) -> tuple[Unfinished, ...]:
        """Return who has not come through after so many seconds."""
        deadline = time.monotonic() + seconds
        self._scene.topics.read_to(self._scene.cluster.ends([ORDERS_CREATED]), seconds=STALL_SECONDS)
        self._accepted = self._visible(ORDERS_CREATED.name)
        while not self._look():
            self._tell()
            if time.monotonic() > deadline:
                self._scene.read(seconds=STALL_SECONDS)
                return self._unfinished()
            time.sleep(TURN_SECONDS)
            # What a transaction holds back is not waited for here: that is the judgement's matter.
            self._scene.read(seconds=TURN_SECONDS)
        self._tell()
        return ()

    def _look(self) -> bool:
        if not _reached(self._scene.cluster.committed(INVENTORY), self._accepted):
            return False
        if not self._followers and not self._minutes:
            return True
        self._outcomes = self._outcomes or self._visible_now(*OUTCOMES)
        if self._minutes and self._uncounted():
            return False
        if not self._followers:
            return True
        self._notification = self._scene.cluster.committed(NOTIFICATION)
        self._projection = self._scene.tables.projection()
        if not _reached(self._notification, self._outcomes):
            return False
        self._told = self._told or self._visible_now(NOTIFICATION_SENT.name)
        return _reached(self._projection, {**self._accepted, **self._outcomes, **self._told})

    def _uncounted(self) -> list[Unfinished]:
        """Return the orders that no partial holds yet; once there are none, the partials that no total holds."""
        found, cluster = self._scene.found, self._scene.cluster
        aside = {letter.source for letter in found.dead_letters}
        events = [event for group in found.outcomes.values() for event in group if event.at not in aside]
        if waiting := [Unfinished(event.order_id, "minute") for event in uncounted(events, counted_to(cluster))]:
            return waiting
        self._scene.read(seconds=STALL_SECONDS)  # the partials that hold them
        if found.partials and found.partials[-1].offset >= added_to(cluster):
            return [Unfinished("", "total of the last partials")]
        return []

    def _visible_now(self, *names: str) -> Offsets:
        self._scene.read(seconds=STALL_SECONDS)
        return self._visible(*names)

    def _visible(self, *names: str) -> Offsets:
        """Return the offset behind the last visible record per partition: no reader gets behind what follows it."""
        return {spot: offset + 1 for spot, offset in self._scene.topics.last.items() if spot.topic in names}

    def _tell(self) -> None:
        found = self._scene.found
        self._report(
            Waiting(
                orders=len(found.created),
                outcomes=len(found.outcomes),
                notified=len(found.sent),
                statuses=self._scene.tables.decided_statuses() if self._followers else 0,
            )
        )

    def _unfinished(self) -> tuple[Unfinished, ...]:
        """Return the records among the accepted that lack something, and what."""
        found = self._scene.found
        dead = {letter.source for letter in found.dead_letters}
        late = []
        for order_id, copies in found.created.items():
            if all(not below(copy.at, self._accepted) or copy.at in dead for copy in copies):
                continue
            events = found.outcomes.get(order_id, ())
            if not events:
                late.append(Unfinished(order_id, "outcome"))
            elif self._followers and not any(below(event.at, self._notification) for event in events):
                late.append(Unfinished(order_id, "notification"))
            elif self._followers and not any(below(event.at, self._projection) for event in events):
                late.append(Unfinished(order_id, "status"))
        late += self._uncounted() if self._minutes else ()
        late += [
            Unfinished("", f"dead letter of {poison.at}")
            for poison in found.poison
            if below(poison.at, self._accepted) and poison.at not in dead
        ]
        return tuple(late)


def _reached(offsets: Offsets, wanted: Offsets) -> bool:
    return all(offsets.get(spot, 0) >= offset for spot, offset in wanted.items())
