"""What one batch of orders leads to: decode, read, decide, record, plan.

The database commits here, before any Kafka transaction is open. A crash at any line is answered by the next attempt:
what was recorded is found and its stored bytes go out; what was not is decided then.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import psycopg

from common import metrics
from common.events.codec import Codec
from inventory_service.core.replay import Arrival, Decision, owners, undecided
from inventory_service.core.rule import Rule
from inventory_service.io import decision_store
from inventory_service.io.decision_store import Decisions
from inventory_service.io.decoding import Decoding
from inventory_service.io.outcome_events import OutcomeEvents
from inventory_service.io.ruling import Ruling
from inventory_service.io.unsettled import Unsettled
from onceloop import failpoints
from onceloop.errors import Poison
from onceloop.postgres.connection import HotConnection
from onceloop.postgres.guards import Guards
from onceloop.postgres.halving import halve
from onceloop.postgres.retry import rerun
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish, next_offsets

Answer = tuple[OutputRecord, str | None]
"""An event, and why it brings no reservation."""


class InventoryStep:
    """Reserve stock for orders, once each, as `rule` says. `batch_records_max`: the largest batch."""

    def __init__(
        self,
        *,
        connection: HotConnection,
        codec: Codec,
        namespace: str,
        batch_records_max: int,
        guards: Guards,
        rule: Rule,
        decisions: Decisions = decision_store,
    ) -> None:
        self._connection = connection
        self._observer, self._clock = connection.runtime.observer, connection.runtime.clock
        self._limit = self._limit_max = batch_records_max
        self._decoding = Decoding(codec, namespace=namespace, observer=self._observer)
        self._events = OutcomeEvents(codec, namespace=namespace, new_id=connection.runtime.new_id)
        self._ruling = Ruling(rule, self._events, self._clock)
        self._guards = guards
        self._decisions = decisions
        self._unsettled = Unsettled()

    @property
    def limit(self) -> int:
        """Return how many records the next batch may hold."""
        return self._limit

    def decide(self, batch: Sequence[InputRecord]) -> Publish:
        """Return events and dead letters of the batch; its decisions are committed in PostgreSQL when this returns."""
        self._admit(batch)
        arrivals, letters = self._decoding.of(batch)
        self._point("decoded")
        events, rejected = halve(arrivals, self._decide_all, self._observer)
        letters += self._decoding.letters_of(batch, rejected)
        self._point("db.committed")
        offsets = next_offsets(batch)
        self._unsettled = Unsettled(offsets, Counter(reason for _, reason in events), len(letters))
        return Publish([*(event for event, _ in events), *letters], offsets)

    def pending(self) -> bool:
        """Return False: orders alone lead to events."""
        return False

    def settled(self, published: Publish) -> None:
        """Note and count what is now visible; take more again."""
        self._guards.note(published.offsets)
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
        self._guards.demand(stable)

    def ready(self) -> bool:
        """Return True if PostgreSQL answers."""
        return self._connection.answers()

    def _admit(self, batch: Sequence[InputRecord]) -> None:
        try:
            self._guards.admit(batch)
        except Poison:
            self._limit = 1
            raise

    def _count(self) -> None:
        """Count what the last plan made visible, once."""
        self._unsettled.count(self._observer)
        self._unsettled = Unsettled()

    def _decide_all(self, arrivals: Sequence[Arrival]) -> list[Answer]:
        return rerun(
            lambda connection: self._decide(connection, arrivals), self._connection, guards=decision_store.GUARDS
        )

    def _decide(self, connection: psycopg.Connection, arrivals: Sequence[Arrival]) -> list[Answer]:
        """Return the events of the batch; the decisions that they report are committed."""
        self._guards.insist()
        snapshot = self._decisions.read(
            connection,
            skus={sku for arrival in arrivals for sku, _ in arrival.order.lines},
            order_ids={arrival.order.order_id for arrival in arrivals},
            user_ids=self._ruling.customers(arrivals),
        )
        self._point("db.read")
        new, taken = self._ruling.decide(undecided(arrivals, snapshot.known), snapshot)
        self._point("db.decided")
        known = {**snapshot.known, **{row.decision.order_id: row.decision for row in new}}
        with self._decisions.recording(connection, new=new, replayed=snapshot.known, taken=taken):
            answers = self._answers(owners(arrivals, known))
        self._observer.count(metrics.INVENTORY_REPLAYS, by=len(snapshot.known))
        return answers

    def _answers(self, owned: Sequence[tuple[Arrival, Decision]]) -> list[Answer]:
        return list(zip(self._events.records(owned), [decision.reason for _, decision in owned], strict=True))

    def _point(self, name: str) -> None:
        failpoints.point(f"inventory:{name}")
