"""Set the offsets of the group `inventory` to where its topics and tables prove that it belongs.

Its own offset counts for nothing here, since it may be what is wrong: set by hand, forgotten, old, or pending in a
transaction that hangs (docs/adr/0040).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from common.config import KafkaSettings
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED, Topic, dead_letter_topic
from deploy.offsets.answered import Report, answered
from deploy.offsets.cluster import Cluster, Ends, has_members
from deploy.offsets.plan import Facts, refusals
from deploy.offsets.tables import noted
from onceloop.errors import ReportedError
from onceloop.records import Partition

EVENTS, LETTERS = (INVENTORY_RESERVED, INVENTORY_FAILED), (dead_letter_topic(ORDERS_CREATED, INVENTORY),)


@dataclass(frozen=True, slots=True)
class Repair:
    """What was found. `hindrances`: what keeps the offsets from being set, each with the way out; empty if nothing."""

    group: str
    partitions: Sequence[Facts]
    hindrances: Sequence[tuple[str, str]] = ()

    @property
    def changes(self) -> dict[int, int]:
        """Return partition -> offset for those that are not where they belong."""
        return {each.number: each.target for each in self.partitions if each.committed != each.target}


class InventoryOffsets:
    """The group's offsets and what proves them, on one cluster and in one database."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._cluster = Cluster(settings)
        self._namespace = settings.namespace
        self._topic = ORDERS_CREATED.within(settings.namespace)
        self.group_id = INVENTORY.within(settings.namespace)

    def look(self, connection: sa.Connection, *, skip_removed: bool, report: Report) -> Repair:
        """Return where the group stands and belongs. Takes as long as reading all outcomes does.

        Raises ReportedError if the group has members, or if a transaction hides what is visible soon.
        """
        self._cluster.await_empty(self.group_id)
        orders = self._cluster.partitions([self._topic])
        facts = self._facts(connection, orders, report)
        return Repair(self.group_id, facts, tuple(self._hindrances(orders, facts, skip_removed=skip_removed)))

    def set(self, repair: Repair) -> None:
        """Set what differs, all or nothing. Raises ReportedError if something is in the way, live members among it."""
        if repair.hindrances:
            raise ReportedError(
                "\n".join(what for what, _ in repair.hindrances),
                cure="\n".join(dict.fromkeys(cure for _, cure in repair.hindrances)),
            )
        if repair.changes:
            offsets = {Partition(self._topic, number): offset for number, offset in repair.changes.items()}
            self._cluster.set_offsets(self.group_id, offsets)

    def _facts(self, connection: sa.Connection, orders: Sequence[Partition], report: Report) -> list[Facts]:
        events, letters = self._ends(EVENTS), self._ends(LETTERS)
        by_event = answered(self._cluster.options, events, prefix="origin_", origin=self._topic, report=report)
        by_letter = answered(self._cluster.options, letters, prefix="dlq_", origin=self._topic, report=report)
        if (self._ends(EVENTS), self._ends(LETTERS)) != (events, letters):
            raise has_members(self.group_id)
        written = noted(connection, self._topic)
        ends = self._cluster.settled_ends(orders)
        committed = self._cluster.committed(self.group_id, orders)
        return [
            Facts(
                number=at.number,
                first=ends[at].first,
                end=ends[at].stable,
                committed=committed.get(at),
                event=by_event.get(at.number),
                letter=by_letter.get(at.number),
                noted=written.progress.get(at.number),
                decided=written.decided.get(at.number),
            )
            for at in orders
        ]

    def _hindrances(
        self, orders: Sequence[Partition], facts: Sequence[Facts], *, skip_removed: bool
    ) -> list[tuple[str, str]]:
        found = list(refusals(self._topic, facts, skip_removed=skip_removed))
        if self._cluster.pending(self.group_id, orders):
            at = self._cluster.kept_on(self.group_id)
            found.append(
                (
                    f"offsets of {self.group_id} are pending in a transaction that is open on {at.topic}[{at.number}]",
                    "end it, then run this again: docs/runbook.md, readers stand still",
                )
            )
        return found

    def _ends(self, topics: Sequence[Topic]) -> dict[Partition, Ends]:
        return self._cluster.settled_ends(self._cluster.partitions([each.within(self._namespace) for each in topics]))
