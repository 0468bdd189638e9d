"""Believe neither the group's offsets nor the database before the one confirms the other (docs/adr/0031, 0042).

What is answered is noted in `inventory.progress`. Offsets that lie before the note: a broker that loads its groups
answers so, or they were set back by hand; orders would be answered twice. Offsets that lie beyond it: the note of the
last batches was lost, and then every order between has its decision. Or it has none: the offsets were set ahead by
hand, and the orders between would be lost; or PostgreSQL was restored from an older backup, and the stock of what was
answered since would be sold twice.

Restoring a database ends its sessions. So a new connection is proven as a whole: on every partition, also on those
of other workers, whose reservations hold the same stock.
"""

from collections.abc import Mapping
from functools import partial

from common.events.codec import Codec
from common.events.orders import OrderCreated
from common.log import get_logger
from inventory_service.io import decision_store, progress_store
from onceloop.errors import Busy, Undecodable
from onceloop.kafka.input_log import InputLog
from onceloop.kafka.offset_proof import Doubt, old_offsets
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.retry import rerun
from onceloop.records import CommitPoint, InputRecord, Partition

log = get_logger()


class ProgressProof:
    """What is to be proven before the next order is decided."""

    def __init__(self, *, connection: HotConnection, input_log: InputLog, codec: Codec) -> None:
        self._connection = connection
        self._input_log = input_log
        self._codec = codec
        self._sought: Mapping[Partition, CommitPoint] = {}
        self._decided_to: dict[Partition, int] = {}
        self._compared_on = self._proven_on = 0
        self._old = old_offsets(
            done="answered",
            cure="restart the group's broker, whose log has the right ones; if it stays, stop the workers, then:"
            " pipeline offsets repair inventory",
        )
        self._undecided = Doubt(
            passing="committed offsets beyond what is decided",
            staying="the group's offsets lie beyond what is decided",
            cure="stop the workers; if PostgreSQL was restored from a backup, then: pipeline rebuild; if the offsets"
            " were set ahead, then: pipeline offsets repair inventory",
        )

    def demand(self, sought: Mapping[Partition, CommitPoint]) -> None:
        """Have these offsets, where reading goes on, proven before the next order is decided."""
        self._sought = sought

    def give(self) -> None:
        """Prove what is to be proven. Raises Busy while it is not, and FatalError if it stays so for a minute."""
        known = self._connection.opened == self._proven_on
        if known and not self._sought:
            return
        points = {at: point.offset for at, point in self._sought.items()}
        if not known:
            points = {**self._input_log.committed(), **points}
        opened, answered = rerun(partial(self._answered, points), self._connection)
        if opened != self._compared_on:
            self._decided_to.clear()
            self._compared_on = opened
        self._old.weigh(
            {at: f"at {points[at]} of {answered[at]}" for at in self._sought if points[at] < answered.get(at, 0)}
        )
        self._prove_decided(points, answered)
        if self._connection.opened != opened:
            raise Busy("the connection to PostgreSQL was lost while its rows were proven")
        self._proven_on, self._sought = opened, {}

    def insist(self) -> None:
        """Raise Busy if the connection is not the one that was proven: then nothing may be decided on it."""
        if self._connection.opened != self._proven_on:
            raise Busy("a new connection to PostgreSQL: its rows are to be proven first")

    def _answered(self, points: Mapping[Partition, int], connection: object) -> tuple[int, dict[Partition, int]]:
        return self._connection.opened, progress_store.answered(connection, points)  # type: ignore[arg-type]

    def _prove_decided(self, points: Mapping[Partition, int], answered: Mapping[Partition, int]) -> None:
        """Look up the orders between what is noted and what is committed; if all are decided, note the latter."""
        begins = {at: max(answered.get(at, 0), self._decided_to.get(at, 0)) for at in points}
        ahead = {at: (begins[at], offset) for at, offset in points.items() if offset > begins[at]}
        if not ahead:
            self._undecided.weigh({})
            return
        reading = self._input_log.read(ahead)
        self._undecided.weigh(
            {
                at: f"stands at {points[at]}, but {len(offsets)} orders from {offsets[0]} on have no decision"
                for at, offsets in self._missing(reading.records).items()
            }
        )
        self._decided_to.update(reading.reached)
        if left := sum(end - reading.reached[at] for at, (_, end) in ahead.items()):
            raise Busy(f"committed offsets are compared with the decisions: {left} to go")
        for at, (begin, _) in ahead.items():
            if reading.firsts[at] > begin:
                log.warning("progress.unproven", partition=str(at), noted=begin, first=reading.firsts[at])
        proven = {at: CommitPoint(end) for at, (_, end) in ahead.items()}
        rerun(lambda connection: progress_store.note(connection, proven), self._connection)

    def _missing(self, records: list[InputRecord]) -> dict[Partition, list[int]]:
        """Return the offsets of orders that have neither a decision nor a dead letter."""
        orders: list[tuple[InputRecord, str]] = []
        for record in records:
            try:
                orders.append((record, self._codec.decode(OrderCreated, record.value).order_id))
            except Undecodable:
                continue
        ids = {order_id for _, order_id in orders}
        decided = rerun(lambda connection: decision_store.decided(connection, ids), self._connection) if ids else ids
        suspects = [record for record, order_id in orders if order_id not in decided]
        letters = self._input_log.dead_letters() if suspects else set()
        missing: dict[Partition, list[int]] = {}
        for record in suspects:
            if (record.partition, record.offset) not in letters:
                missing.setdefault(record.partition, []).append(record.offset)
        return missing
