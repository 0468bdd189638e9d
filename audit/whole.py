"""Audit a pipeline: wait until what was accepted has come through, read the books in an order that is sound, judge.

What was accepted when the audit began is waited for; what comes in meanwhile is judged only as far as it has come.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from audit.books import Books, Key, Notes, Progress, Unfinished
from audit.config import CheckerSettings
from audit.errors import StoreDownError
from audit.readers.counting import LATEST_SECONDS, added_to, counted_to, overdue_at
from audit.readers.evidence import Evidence
from audit.readers.second_reading import reread
from audit.readers.tables import Tables
from audit.readers.topics import DOWNSTREAM_FIRST
from audit.rules.judge import Judgement, judge
from audit.scene import Scene
from audit.terms import Offsets
from audit.waiting import Wait, Waiting
from common.topics import EVENT_TOPICS, INVENTORY, NOTIFICATION, ORDERS_CREATED

STALL_SECONDS = 30.0
"""How long a partition may stand still below its end: more than a transaction time-out and the broker's sweep."""


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
        self._scene: Scene | None = None
        self._ahead = threading.Lock()

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
        """Wait, read, judge. `followers=False` waits for outcomes alone: there is no notification and no projection.

        `minutes` also waits until every outcome is counted and added up, so until its minute is over.

        `evidence` holds what topics and tables do not, of everything that ever happened to this pipeline: the load must
        have ended before. It also has the rules asked that judge nothing else; `Judgement.idle` names
        those that were given nothing.

        Raises StoreDownError if broker, registry or database does not answer, OSError if a file of the evidence is
        missing; the next audit then reads everything again.
        """
        try:
            with uncollected():
                scene = self._opened(counting=evidence is not None and evidence.reread)
                # Both come first: whatever they name was there before the topics are read.
                testimony = evidence.testimony() if evidence is not None else None
                keys = scene.tables.keys()
                unfinished = Wait(
                    scene, followers=followers, minutes=minutes, stall_seconds=STALL_SECONDS, report=report
                ).run(wait_seconds)
                books, _ = gather(scene, keys, unfinished, read=lambda _: scene.tables.read(keys=testimony is not None))
                books = replace(books, testimony=testimony, minutes_over=minutes and testimony is not None)
                if testimony is not None and scene.counting:
                    begins = scene.cluster.begins(DOWNSTREAM_FIRST)  # retention may have gone on meanwhile
                    begins = {spot: begin for spot, begin in begins.items() if spot in books.ends}
                    rereading = reread(self._settings, begins=begins, ends=books.ends, first=scene.census)
                    books = replace(books, testimony=replace(testimony, rereading=rereading))
                return judge(books, restocked=restocked)
        except BaseException:
            self._close()
            raise

    def read_ahead(self, offsets: Offsets, *, seconds: float) -> None:
        """Read up to these offsets, so that retention may take what is below; the records count in every later audit.

        Raises StoreDownError if a partition does not get there within so many seconds.
        """
        with self._ahead, uncollected():
            if stalls := self._opened(counting=True).topics.read_to(offsets, seconds=seconds):
                raise StoreDownError(f"cannot read up to {stalls[0].end} of {stalls[0].at.spot}")

    @contextmanager
    def recounting(self) -> Iterator[None]:
        """Have the next audit read again what is recounted within the block; meanwhile nothing is read ahead."""
        with self._ahead:
            try:
                yield
            finally:
                if self._scene is not None:
                    self._scene.forget_minutes()

    def _opened(self, *, counting: bool) -> "Scene":
        """Return what is looked at; from the beginning, if each record is to be counted and was not so far."""
        if self._scene is None or (counting and not self._scene.counting):
            self._close()
            self._scene = Scene(self._settings, counting=counting)
        return self._scene

    def _close(self) -> None:
        if self._scene is not None:
            self._scene.topics.close()
            self._scene = None


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the cycle collector out: it would walk millions of small tuples, which hold no cycles, again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def gather(
    scene: Scene,
    keys: tuple[Key, ...],
    unfinished: tuple[Unfinished, ...],
    *,
    read: Callable[[Offsets], Tables],
) -> tuple[Books, Tables]:
    """Read what is left to read: offsets, topics, offsets, tables. See `Books` for why in this order.

    `read` returns the rows; it is given the inventory's offsets of after the topics were read.
    """
    added, counting = added_to(scene.cluster), counted_to(scene.cluster)
    overdue_ms = round((time.time() - LATEST_SECONDS) * 1000)
    inventory_before = scene.cluster.committed(INVENTORY)
    notification = scene.cluster.committed(NOTIFICATION)
    ends, stalls = scene.read(seconds=STALL_SECONDS)
    # A pending offset hangs on a transaction that is a stall itself; whatever it covers is below the end.
    inventory_after = scene.cluster.committed_stable(INVENTORY, seconds=STALL_SECONDS) or ends
    stalls = stalls or scene.held_back(ends, seconds=STALL_SECONDS)
    rows = read(inventory_after)
    books = Books(
        created=scene.found.created,
        poison=tuple(scene.found.poison),
        outcomes=scene.found.outcomes,
        sent=scene.found.sent,
        partials=tuple(scene.found.partials),
        totals=tuple(scene.found.totals),
        dead_letters=tuple(scene.found.dead_letters),
        undecodable=tuple(scene.found.undecodable),
        misfits=tuple(scene.found.misfits),
        first_answers=dict(scene.found.first_answers),
        stalls=stalls,
        begins=dict(scene.topics.begins),
        ends=ends,
        keys=keys,
        key_orders=rows.key_orders,
        decisions=rows.decisions,
        stock=rows.stock,
        tallies=rows.tallies,
        turns=rows.turns,
        statuses=rows.statuses,
        ledger=rows.ledger,
        notes=_notes(scene, rows),
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
    )
    return books, rows


def _notes(scene: Scene, rows: Tables) -> Notes:
    """Put what tables note of topics beside what bounds it: that is asked for after the tables, so it is no less."""
    return Notes(
        answered=rows.answered,
        starts=rows.starts,
        topic_ids=rows.topic_ids,
        committed=scene.cluster.committed(INVENTORY),
        ends=scene.cluster.ends(EVENT_TOPICS),
        topic_ids_now=scene.cluster.topic_ids([ORDERS_CREATED]),
    )
