"""Wait until each order that is on the topic at the start has its outcome, and each outcome its followers.

The wait is one for all, since it ends with the slowest; who was slow is asked order by order when it is over, each by
where its own records stand. So an order that waits on a partition without a reader accuses itself alone.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from audit.books import Created, Unfinished
from audit.readers.counting import added_to, counted_to
from audit.rules.minute_rules import uncounted
from audit.scene import TURN_SECONDS, Scene
from audit.terms import Coordinate, Offsets, below
from common.topics import (
    INVENTORY,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    NOTIFICATION,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
)

OUTCOMES = (INVENTORY_RESERVED.name, INVENTORY_FAILED.name)


@dataclass(frozen=True, slots=True)
class Waiting:
    """How far the wait has come: how many orders were read, and how many of them have what they need."""

    orders: int
    outcomes: int
    notified: int
    statuses: int


class Wait:
    """`followers`: notification and status are waited for too; `minutes`: the count of each outcome.

    `stall_seconds`: how long a reader may stand still below an end before that is a transaction's doing.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        followers: bool,
        minutes: bool,
        stall_seconds: float,
        report: Callable[[Waiting], None],
    ) -> None:
        self._scene = scene
        self._followers = followers
        self._minutes = minutes
        self._stall_seconds = stall_seconds
        self._report = report
        self._accepted: Offsets = {}
        self._inventory: Offsets = {}
        self._notification: Offsets = {}
        self._projection: Offsets = {}
        # Where the followers must get to; known once those before them are through.
        self._outcomes: Offsets | None = None
        self._notified: Offsets | None = None

    def run(self, seconds: float) -> tuple[Unfinished, ...]:
        """Return who has not come through after so many seconds."""
        deadline = time.monotonic() + seconds
        self._scene.topics.read_to(self._scene.cluster.ends([ORDERS_CREATED]), seconds=self._stall_seconds)
        self._accepted = self._visible(ORDERS_CREATED.name)
        while not self._look():
            self._report_progress()
            if time.monotonic() > deadline:
                return self._after_all()
            time.sleep(TURN_SECONDS)
            # What a transaction holds back is not waited for here: that is the judgement's matter.
            self._scene.read(seconds=TURN_SECONDS)
        self._report_progress()
        return tuple(self._overtaken())

    def _look(self) -> bool:
        self._inventory = self._scene.cluster.committed(INVENTORY)
        if not _reached(self._inventory, self._accepted):
            return False
        if not self._followers and not self._minutes:
            return True
        self._outcomes = self._outcomes or self._visible_now(*OUTCOMES)
        if self._minutes and self._uncounted():
            return False
        if not self._followers:
            return True
        self._follow()
        if not _reached(self._notification, self._outcomes):
            return False
        self._notified = self._notified or self._visible_now(NOTIFICATION_SENT.name)
        return _reached(self._projection, {**self._accepted, **self._outcomes, **self._notified})

    def _follow(self) -> None:
        self._notification = self._scene.cluster.committed(NOTIFICATION)
        self._projection = self._scene.tables.projection()

    def _after_all(self) -> tuple[Unfinished, ...]:
        """Return who lacks what, now that the time is over: by the offsets of this moment, whatever was waited for."""
        self._scene.read(seconds=self._stall_seconds)
        self._inventory = self._scene.cluster.committed(INVENTORY)
        if self._followers:
            self._follow()
        late = [*self._late_orders(), *(self._uncounted() if self._minutes else ()), *self._late_poison()]
        return (*late, *self._overtaken()) if late else (*self._late_readers(), *self._overtaken())

    def _uncounted(self) -> list[Unfinished]:
        """Return the orders that no partial holds yet; once there are none, the partials that no total holds."""
        found, cluster = self._scene.found, self._scene.cluster
        aside = {letter.source for letter in found.dead_letters}
        events = [event for group in found.outcomes.values() for event in group if event.at not in aside]
        if waiting := [Unfinished(event.order_id, "minute") for event in uncounted(events, counted_to(cluster))]:
            return waiting
        self._scene.read(seconds=self._stall_seconds)  # the partials that hold them
        if found.partials and found.partials[-1].offset >= added_to(cluster):
            return [Unfinished("", "total of the last partials")]
        return []

    def _visible_now(self, *names: str) -> Offsets:
        self._scene.read(seconds=self._stall_seconds)
        return self._visible(*names)

    def _visible(self, *names: str) -> Offsets:
        """Return the offset behind the last visible record per partition: no reader gets behind what follows it."""
        return {spot: offset + 1 for spot, offset in self._scene.topics.last.items() if spot.topic in names}

    def _report_progress(self) -> None:
        found = self._scene.found
        self._report(
            Waiting(
                orders=len(found.created),
                outcomes=len(found.outcomes),
                notified=len(found.sent),
                statuses=self._scene.tables.decided_statuses() if self._followers else 0,
            )
        )

    def _late_orders(self) -> Iterator[Unfinished]:
        """Yield the orders among the accepted of which a reader has not read what it should have by now."""
        dead = {letter.source for letter in self._scene.found.dead_letters}
        for order_id, copies in self._scene.found.created.items():
            due = [copy for copy in copies if below(copy.at, self._accepted) and copy.at not in dead]
            if due and (lacks := self._lacks(order_id, due)) is not None:
                yield Unfinished(order_id, *lacks)

    def _lacks(self, order_id: str, due: list[Created]) -> tuple[str, str] | None:
        """Return what an order lacks and who has not read which of its records."""
        events = self._scene.found.outcomes.get(order_id, ())
        if unread := _first_unread([copy.at for copy in due], self._inventory):
            return ("further reading" if events else "outcome"), f"the inventory has not read {unread}"
        if not self._followers:
            return None
        answers = [event.at for event in events]
        if unread := _first_unread(answers, self._notification):
            return "notification", f"the notification has not read {unread}"
        notified = [sent.at for sent in self._scene.found.sent.get(order_id, ())]
        if unread := _first_unread([*(copy.at for copy in due), *answers, *notified], self._projection):
            return "status", f"the projection has not read {unread}"
        return None

    def _late_poison(self) -> Iterator[Unfinished]:
        dead = {letter.source for letter in self._scene.found.dead_letters}
        for poison in self._scene.found.poison:
            if below(poison.at, self._accepted) and poison.at not in dead:
                yield Unfinished("", f"dead letter of {poison.at}")

    def _late_readers(self) -> Iterator[Unfinished]:
        """Yield what was waited for although no order lacks anything any more: such a wait must not pass in silence."""
        wanted = {**self._accepted, **(self._outcomes or {}), **(self._notified or {})}
        read_by = {
            "the inventory": {ORDERS_CREATED.name},
            "the notification": set(OUTCOMES),
            "the projection": {ORDERS_CREATED.name, *OUTCOMES, NOTIFICATION_SENT.name},
        }
        for who, stands in self._readers().items():
            for spot, offset in wanted.items():
                if spot.topic in read_by[who] and stands.get(spot, 0) < offset:
                    yield Unfinished("", f"further reading of {spot.topic} {spot.partition}", f"{who} has not gone on")

    def _overtaken(self) -> Iterator[Unfinished]:
        """Yield where retention has taken orders that the inventory had not read: what they were cannot be judged.

        What its followers missed so shows in the tables, order by order.
        """
        for spot, offset in self._inventory.items():
            begin = self._scene.topics.begins.get(spot, 0)
            if offset < begin:
                gone = f"{spot.topic} {spot.partition}@{offset} to {begin - 1}"
                yield Unfinished("", "judgement", f"{gone} were trimmed before the inventory had read them", lost=True)

    def _readers(self) -> Mapping[str, Offsets]:
        if not self._followers:
            return {"the inventory": self._inventory}
        return {
            "the inventory": self._inventory,
            "the notification": self._notification,
            "the projection": self._projection,
        }


def _first_unread(records: list[Coordinate], offsets: Offsets) -> Coordinate | None:
    return next((at for at in records if not below(at, offsets)), None)


def _reached(offsets: Offsets, wanted: Offsets) -> bool:
    return all(offsets.get(spot, 0) >= offset for spot, offset in wanted.items())
