"""What one batch of orders leads to: decode, read, decide, record, plan.

The database commits here, before any Kafka transaction is open. A crash at any line is answered by the next attempt:
what was recorded is found and its stored bytes go out; what was not is decided then.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
import uuid_utils

from common import failpoints, metrics
from common.errors import Poison, Undecodable
from common.events import envelope
from common.events.codec import Codec
from common.events.inventory import InventoryFailed
from common.events.orders import OrderCreated
from common.kafka.dead_letter import dead_letter
from common.kafka.input_log import InputLog
from common.kafka.loop_core import next_offsets
from common.kafka.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish, Quarantine
from common.log import get_logger
from common.postgres.connection import HotConnection
from common.postgres.retry import rerun
from common.topics import INVENTORY, INVENTORY_FAILED, INVENTORY_RESERVED, ORDERS_CREATED, dead_letter_topic
from inventory_service.core.allocation import Demand, Outcome, Reserved, allocate
from inventory_service.core.replay import Arrival, Coordinate, Decision, owners, undecided
from inventory_service.io import decision_store, progress_store, start_store
from inventory_service.io.decision_store import NewDecision
from inventory_service.io.proof import ProgressProof

STARTS_TO_NARROW = 3
STARTS_TO_QUARANTINE = 6

Answer = tuple[OutputRecord, str | None]
"""An event, and why it brings no reservation."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Unsettled:
    """What the plan that was made last will have made visible, once its transaction is committed."""

    offsets: Mapping[Partition, CommitPoint] = field(default_factory=dict)
    reasons: Mapping[str | None, int] = field(default_factory=dict)
    letters: int = 0

    def is_covered_by(self, stable: Mapping[Partition, CommitPoint]) -> bool:
        """Return True if the group stands where the plan would have put it, as far as its partitions are still ours."""
        known = self.offsets.keys() & stable.keys()
        return bool(known) and all(stable[at].offset >= self.offsets[at].offset for at in known)


class InventoryStep:
    """Reserve stock for orders, once each. `batch_records_max`: the largest batch, narrowed after doubtful starts."""

    def __init__(
        self,
        *,
        connection: HotConnection,
        codec: Codec,
        namespace: str,
        batch_records_max: int,
        input_log: InputLog,
    ) -> None:
        self._connection = connection
        self._codec = codec
        self._limit = self._limit_max = batch_records_max
        self._reserved_topic = INVENTORY_RESERVED.within(namespace)
        self._failed_topic = INVENTORY_FAILED.within(namespace)
        self._dead_letter_topic = dead_letter_topic(ORDERS_CREATED, INVENTORY).within(namespace)
        self._begun: set[Partition] = set()
        self._proof = ProgressProof(connection=connection, input_log=input_log, codec=codec)
        self._unsettled = Unsettled()

    @property
    def limit(self) -> int:
        """Return how many records the next batch may hold."""
        return self._limit

    def decide(self, batch: Sequence[InputRecord]) -> Publish:
        """Return events and dead letters of the batch; its decisions are committed in PostgreSQL when this returns."""
        self._proof.give()
        self._guard_starts(batch)
        arrivals, letters = self._decode(batch)
        self._point("decoded")
        events, rejected = self._answer(arrivals)
        if rejected:
            records = {Coordinate(record.partition, record.offset): record for record in batch}
            letters += [self._letter(records[at], Undecodable("database", str(poison))) for at, poison in rejected]
        self._point("db.committed")
        offsets = next_offsets(batch)
        self._unsettled = Unsettled(offsets, Counter(reason for _, reason in events), len(letters))
        return Publish([*(event for event, _ in events), *letters], offsets)

    def pending(self) -> bool:
        """Return False: orders alone lead to events."""
        return False

    def settled(self, published: Publish) -> None:
        """Note and count what is now visible; take more again."""
        self._note_progress(published)
        self._count()
        self._limit = min(2 * self._limit, self._limit_max)

    def narrow(self) -> None:
        """Halve the limit: somewhere in the batch may be a record that ends processes."""
        self._limit = max(1, self._limit // 2)

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None:
        """Forget the batch in hand; before the next one is decided, these offsets are to be proven.

        If they are those of the batch, its transaction was committed after all, and no other process will count it.
        """
        if self._unsettled.is_covered_by(stable):
            self._count()
        self._unsettled = Unsettled()
        self._proof.demand(stable)

    def ready(self) -> bool:
        """Return True if PostgreSQL answers."""
        return self._connection.answers()

    def untouched(self, partitions: frozenset[Partition]) -> frozenset[Partition]:
        """Return those at which no process has ever begun: nothing was decided there. Raises Busy."""
        return partitions - rerun(lambda connection: start_store.begun(connection, partitions), self._connection)

    def end_in_order(self) -> None:
        """Take the counted starts back: a stop, or an end that says why, is no crash of a record's making."""
        try:
            for partition in self._begun:
                start_store.take_start_back(self._connection.get(), partition)
        except psycopg.Error as error:
            log.warning("start.not_taken_back", cause=str(error))  # six crashes still lie between this and a quarantine

    def _count(self) -> None:
        """Count what the last plan made visible."""
        for reason, orders in self._unsettled.reasons.items():
            verdict, label = ("reserved", metrics.NO_REASON) if reason is None else ("failed", reason)
            metrics.INVENTORY_DECISIONS.labels(verdict, label).inc(orders)
        metrics.DEAD_LETTERS.labels(ORDERS_CREATED.name).inc(self._unsettled.letters)
        self._unsettled = Unsettled()

    def _note_progress(self, published: Publish) -> None:
        try:
            progress_store.note(self._connection.get(), published.offsets)
        except psycopg.Error as error:
            log.info("progress.not_noted", cause=str(error))  # the next note covers it
            self._connection.drop()

    def _guard_starts(self, batch: Sequence[InputRecord]) -> None:
        """Count this process at the first offset it takes from each partition.

        A record that kills every process that touches it would stop its partition and burn the machine: after three
        starts at one offset records are taken singly, after six the partition is left alone and a person is called.
        No dead letter is written for it: a wrong one loses an order.
        """
        for record in batch:
            if record.partition in self._begun:
                continue
            starts = rerun(_count_start(record), self._connection)
            self._begun.add(record.partition)
            if starts >= STARTS_TO_QUARANTINE:
                raise Quarantine(frozenset({record.partition}), f"{starts} starts at offset {record.offset}")
            if starts >= STARTS_TO_NARROW:
                self._limit = 1
                raise Poison(f"{starts} starts of {record.partition} at offset {record.offset}")

    def _decode(self, batch: Sequence[InputRecord]) -> tuple[list[Arrival], list[OutputRecord]]:
        arrivals, letters = [], []
        for record in batch:
            try:
                order = self._codec.decode(OrderCreated, record.value)
            except Undecodable as cause:
                letters.append(self._letter(record, cause))
            else:
                coordinate = Coordinate(record.partition, record.offset)
                arrivals.append(Arrival(coordinate, record.key, record.value or b"", order))
        return arrivals, letters

    def _answer(self, arrivals: Sequence[Arrival]) -> tuple[list[Answer], list[tuple[Coordinate, Poison]]]:
        """Return the events of these orders, and which ones the database rejects, each alone and twice.

        A part that is rejected is halved and tried again at once, in transactions of their own, so that the good halves
        commit. Taking less from the topic instead finds no end under load: what comes next is mostly of another
        partition, succeeds, and lets the batch grow again. No decision stands for what is rejected: it holds no stock.
        """
        if not arrivals:
            return [], []
        try:
            return self._decided(arrivals), []
        except Poison as poison:
            log.warning("orders.rejected", orders=len(arrivals), cause=str(poison))
        if len(arrivals) == 1:
            try:
                return self._decided(arrivals), []
            except Poison as poison:
                return [], [(arrivals[0].coordinate, poison)]
        half = len(arrivals) // 2
        parts = [self._answer(part) for part in (arrivals[:half], arrivals[half:])]
        return [event for events, _ in parts for event in events], [each for _, rejected in parts for each in rejected]

    def _decided(self, arrivals: Sequence[Arrival]) -> list[Answer]:
        return rerun(
            lambda connection: self._decide(connection, arrivals), self._connection, guards=decision_store.GUARDS
        )

    def _decide(self, connection: psycopg.Connection, arrivals: Sequence[Arrival]) -> list[Answer]:
        """Return the events of the batch; the decisions that they tell are committed."""
        self._proof.insist()
        snapshot = decision_store.read(
            connection,
            skus={line.sku for arrival in arrivals for line in arrival.order.lines},
            order_ids={arrival.order.order_id for arrival in arrivals},
        )
        self._point("db.read")
        fresh = undecided(arrivals, snapshot.known)
        allocation = allocate((Demand(a.order.order_id, a.order.lines) for a in fresh), snapshot.available)
        now_ms = time.time_ns() // 1_000_000
        new = [self._new_decision(a, outcome, now_ms) for a, outcome in zip(fresh, allocation.outcomes, strict=True)]
        self._point("db.decided")
        decisions = {**snapshot.known, **{row.decision.order_id: row.decision for row in new}}
        with decision_store.recording(connection, new=new, replayed=snapshot.known, taken=allocation.taken):
            events = [(self._event(arrival, each), each.reason) for arrival, each in owners(arrivals, decisions)]
        metrics.INVENTORY_REPLAYS.inc(len(snapshot.known))
        return events

    def _new_decision(self, arrival: Arrival, outcome: Outcome, now_ms: int) -> NewDecision:
        event_id = str(uuid_utils.uuid7())
        return NewDecision(
            decision=Decision(
                order_id=arrival.order.order_id,
                reason=None if isinstance(outcome, Reserved) else outcome.reason,
                event_id=event_id,
                event=self._event_bytes(arrival, outcome, event_id, now_ms),
                owner=arrival.coordinate,
                decided_at_ms=now_ms,
            ),
            lines=arrival.order.lines,
        )

    def _event_bytes(self, arrival: Arrival, outcome: Outcome, event_id: str, now_ms: int) -> bytes:
        if isinstance(outcome, Reserved):
            return self._codec.encode_reserved(arrival.value, event_id=event_id, decided_at_ms=now_ms)
        order = arrival.order
        return self._codec.encode(
            InventoryFailed(
                event_id=event_id,
                order_id=order.order_id,
                user_id=order.user_id,
                lines=order.lines,
                reason=outcome.reason,
                sku=outcome.sku,
                requested=outcome.requested,
                available=outcome.available,
                placed_at_ms=order.placed_at_ms,
                decided_at_ms=now_ms,
            )
        )

    def _event(self, arrival: Arrival, decision: Decision) -> OutputRecord:
        """Return the record that tells a decision; all of it follows from the row, so every replay is equal."""
        owner = decision.owner
        return OutputRecord(
            topic=self._reserved_topic if decision.reserved else self._failed_topic,
            key=arrival.key,
            value=decision.event,
            headers=(
                *envelope.headers(
                    event_id=decision.event_id,
                    event_type="inventory.reserved" if decision.reserved else "inventory.failed",
                    source="/inventory",
                    time_ms=decision.decided_at_ms,
                ),
                *envelope.origin_headers(
                    topic=owner.partition.topic, partition=owner.partition.number, offset=owner.offset
                ),
            ),
        )

    def _letter(self, record: InputRecord, cause: Undecodable) -> OutputRecord:
        log.warning(
            "record.dead_lettered",
            topic=record.partition.topic,
            partition=record.partition.number,
            offset=record.offset,
            error_class=cause.error_class,
            reason=cause.reason,
        )
        self._point("dlq.isolated")
        return dead_letter(record, cause, topic=self._dead_letter_topic)

    def _point(self, name: str) -> None:
        failpoints.point(f"inventory:{name}")


def _count_start(record: InputRecord) -> Callable[[psycopg.Connection], int]:
    return lambda connection: start_store.count_start(connection, record.partition, record.offset)
