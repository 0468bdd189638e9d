"""Audit a pipeline: wait until what was accepted has come through, read the books in an order that is sound, judge.

What was accepted when the audit began is waited for; what comes in meanwhile is judged only as far as it has come.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.checker.books import AcknowledgedKey, Books, Offsets, Progress, Unfinished, below
from chaos.checker.config import CheckerSettings
from chaos.checker.judge import Judgement, judge
from chaos.checker.tables import TableReader
from chaos.checker.topics import TopicReader
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
    restocked: bool = True,
    report: Callable[[Waiting], None] = lambda _: None,
) -> Judgement:
    """Wait, read, judge. `followers=False` waits for outcomes alone: nobody notifies or projects there.

    Raises StoreDownError if broker, registry or database does not answer.
    """
    tables = TableReader(settings)
    keys = tables.acknowledged_keys()
    with TopicReader(settings) as topics:
        unfinished = _Wait(topics, tables, followers=followers, report=report).run(wait_seconds)
        return judge(_read(topics, tables, keys, unfinished), restocked=restocked)


def _read(
    topics: TopicReader, tables: TableReader, keys: tuple[AcknowledgedKey, ...], unfinished: tuple[Unfinished, ...]
) -> Books:
    """Read what is left to read: offsets, topics, offsets, tables. See `Books` for why in this order."""
    inventory_before = topics.committed(INVENTORY)
    notification = topics.committed(NOTIFICATION)
    ends = topics.ends()
    stalls = topics.read_to(ends, seconds=STALL_SECONDS)
    # A pending offset hangs on a transaction that is a stall itself; whatever it covers is below the end.
    inventory_after = topics.committed_stable(INVENTORY, seconds=STALL_SECONDS) or ends
    rows = tables.read()
    found = topics.collected
    return Books(
        created=found.created,
        poison=tuple(found.poison),
        outcomes=found.outcomes,
        sent=found.sent,
        dead_letters=tuple(found.dead_letters),
        undecodable=tuple(found.undecodable),
        stalls=stalls,
        begins=topics.begins,
        ends=ends,
        keys=keys,
        decisions=rows.decisions,
        stock=rows.stock,
        statuses=rows.statuses,
        ledger=rows.ledger,
        progress=Progress(
            inventory_before=inventory_before,
            inventory_after=inventory_after,
            notification=notification,
            projection=rows.projection,
        ),
        unfinished=unfinished,
    )


class _Wait:
    """Wait until each order that is on the topic at the start has its outcome, and each outcome its followers."""

    def __init__(
        self, topics: TopicReader, tables: TableReader, *, followers: bool, report: Callable[[Waiting], None]
    ) -> None:
        self._topics = topics
        self._tables = tables
        self._followers = followers
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
        self._accepted = {spot: end for spot, end in self._topics.ends().items() if spot.topic == ORDERS_CREATED.name}
        self._topics.read_to(self._accepted, seconds=STALL_SECONDS)
        while not self._look():
            self._tell()
            if time.monotonic() > deadline:
                self._topics.read_to(self._topics.ends(), seconds=STALL_SECONDS)
                return self._unfinished()
            time.sleep(TURN_SECONDS)
            # What a transaction holds back is not waited for here: that is the judgement's matter.
            self._topics.read_to(self._topics.ends(), seconds=TURN_SECONDS)
        self._tell()
        return ()

    def _look(self) -> bool:
        if not _reached(self._topics.committed(INVENTORY), self._accepted):
            return False
        if not self._followers:
            return True
        self._outcomes = self._outcomes or self._last(*OUTCOMES)
        self._notification = self._topics.committed(NOTIFICATION)
        self._projection = self._tables.projection()
        if not _reached(self._notification, self._outcomes):
            return False
        self._told = self._told or self._last(NOTIFICATION_SENT.name)
        return _reached(self._projection, {**self._accepted, **self._outcomes, **self._told})

    def _last(self, *names: str) -> Offsets:
        """Return the offset behind the last visible record of each partition of these topics."""
        self._topics.read_to(self._topics.ends(), seconds=STALL_SECONDS)
        return {spot: offset + 1 for spot, offset in self._topics.last.items() if spot.topic in names}

    def _tell(self) -> None:
        found = self._topics.collected
        self._report(
            Waiting(
                orders=len(found.created),
                outcomes=len(found.outcomes),
                notified=len(found.sent),
                statuses=self._tables.decided_statuses() if self._followers else 0,
            )
        )

    def _unfinished(self) -> tuple[Unfinished, ...]:
        """Return the orders among the accepted that lack something, and what."""
        found = self._topics.collected
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
        return tuple(late)


def _reached(offsets: Offsets, wanted: Offsets) -> bool:
    return all(offsets.get(spot, 0) >= offset for spot, offset in wanted.items())
