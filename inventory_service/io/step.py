"""What one batch of orders leads to: decode, read, decide, record, plan.

The database commits here, before any Kafka transaction is open. A crash at any line is answered by the next attempt:
what was recorded is found and its stored bytes go out; what was not is decided then.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import psycopg

from common import metrics
from common.events.codec import Codec
from common.events.orders import OrderCreated
from common.log import get_logger
from common.topics import INVENTORY, ORDERS_CREATED, dead_letter_topic
from inventory_service.core.allocation import Demand, allocate
from inventory_service.core.replay import Arrival, Coordinate, owners, undecided
from inventory_service.io import decision_store, progress_store
from inventory_service.io.doubtful_starts import StartGuard
from inventory_service.io.outcome_events import OutcomeEvents
from inventory_service.io.proof import ProgressProof
from inventory_service.io.unsettled import Unsettled
from onceloop import failpoints
from onceloop.dead_letter import dead_letter
from onceloop.errors import Poison, Undecodable
from onceloop.kafka.input_log import InputLog
from onceloop.loop_core import next_offsets
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.halving import halve
from onceloop.postgres.retry import rerun
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish

Answer = tuple[OutputRecord, str | None]
"""An event, and why it brings no reservation."""

log = get_logger()


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
        self._events = OutcomeEvents(codec, namespace=namespace)
        self._dead_letter_topic = dead_letter_topic(ORDERS_CREATED, INVENTORY).within(namespace)
        self.starts = StartGuard(connection)
        self._proof = ProgressProof(connection=connection, input_log=input_log, codec=codec)
        self._unsettled = Unsettled()

    @property
    def limit(self) -> int:
        """Return how many records the next batch may hold."""
        return self._limit

    def decide(self, batch: Sequence[InputRecord]) -> Publish:
        """Return events and dead letters of the batch; its decisions are committed in PostgreSQL when this returns."""
        self._proof.give()
        self._count_start(batch)
        arrivals, letters = self._decode(batch)
        self._point("decoded")
        events, rejected = halve(arrivals, self._decide_all)
        letters += self._letters(batch, rejected)
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

    def _count(self) -> None:
        """Count what the last plan made visible, once."""
        self._unsettled.count()
        self._unsettled = Unsettled()

    def _note_progress(self, published: Publish) -> None:
        try:
            progress_store.note(self._connection.get(), published.offsets)
        except psycopg.Error as error:
            log.info("progress.not_noted", cause=str(error))  # the next note covers it
            self._connection.drop()

    def _count_start(self, batch: Sequence[InputRecord]) -> None:
        try:
            self.starts.count(batch)
        except Poison:
            self._limit = 1
            raise

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

    def _decide_all(self, arrivals: Sequence[Arrival]) -> list[Answer]:
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
        new = [self._events.new(a, outcome, now_ms) for a, outcome in zip(fresh, allocation.outcomes, strict=True)]
        self._point("db.decided")
        decisions = {**snapshot.known, **{row.decision.order_id: row.decision for row in new}}
        with decision_store.recording(connection, new=new, replayed=snapshot.known, taken=allocation.taken):
            answers = [
                (self._events.record(arrival, each), each.reason) for arrival, each in owners(arrivals, decisions)
            ]
        metrics.INVENTORY_REPLAYS.inc(len(snapshot.known))
        return answers

    def _letters(self, batch: Sequence[InputRecord], rejected: Sequence[tuple[Arrival, Poison]]) -> list[OutputRecord]:
        """Return dead letters of what the database rejects; no decision stands for it, so it holds no stock."""
        if not rejected:
            return []
        records = {Coordinate(record.partition, record.offset): record for record in batch}
        return [self._letter(records[a.coordinate], Undecodable("database", str(poison))) for a, poison in rejected]

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
