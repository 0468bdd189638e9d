"""The consume-process-produce loop: take a batch, let a step decide, publish in one Kafka transaction, recover.

One thread, one consumer, one producer, one slot. The step's database commits first; only then does a short Kafka
transaction carry the events and the offsets. Whatever goes wrong leaves by one door, `_recover`: drop the producer if
it is tainted, read the committed offsets from the broker, seek every owned partition there. The same records come
again and lead to the same bytes, so it never matters what the failed attempt achieved.

A step may keep batches in memory and commit them with a later one; what is due next is known from the batches, never
from the committed offsets, which may lie far below.

    IDLE -> taken -> decided -> open -> ending -> IDLE        and from everywhere -> RECOVER -> IDLE | PAUSED
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from confluent_kafka import KafkaException

from onceloop import failpoints, metrics
from onceloop.errors import Busy, ContractError, FatalError, Poison
from onceloop.health import Health
from onceloop.kafka.errors import ErrorKind, classify, is_fenced
from onceloop.kafka.group_consumer import GroupConsumer, generation
from onceloop.kafka.transactional_producer import End, TransactionalProducer
from onceloop.lifecycle import Stop
from onceloop.positions import Batch, Positions, Rewind
from onceloop.records import InputRecord, Keep, Partition, Plan, Publish, Quarantine, Step
from onceloop.runtime import REAL, Runtime
from onceloop.telemetry import Level
from onceloop.unsure_ends import UnsureEnds

BACK_OFF_SECONDS = (0.1, 5.0)
INITIALISE_SECONDS = 10.0
"""Then another producer tries: one that learned a wrong address of its coordinator may never ask for it again."""
TWIN_SECONDS = 4.0
"""Polled for so long, a member learns of a twin in its slot: by its next heartbeat, 1.5 s, and some slack."""
STABLE_OFFSETS_ALARM_SECONDS = 25.0
"""The default transaction time-out and 15 s: a pending transaction that old hangs."""


def _watch_nothing() -> None:
    """Find nothing."""


def run(
    step: Step,
    *,
    consumer: GroupConsumer,
    build_producer: Callable[[], TransactionalProducer],
    stop: Stop,
    health: Health,
    service: str,
    watch: Callable[[], None] = _watch_nothing,
    sparse_topics: frozenset[str] = frozenset(),
    runtime: Runtime = REAL,
) -> None:
    """Process until a stop is asked for; the batch in hand is finished, no other is taken.

    `watch` is called in every turn, idle or not; it must not wait. `sparse_topics` are the inputs whose writers commit
    transactions, so that offsets without a record are nothing special there. Raises FatalError if this process must
    not go on: fenced by a twin, an offset gone, the same failure for ever, what `watch` finds. Raises ContractError
    for a plan that would lose or repeat records.
    """
    loop = _Loop(step, consumer, build_producer, stop, health, service, sparse_topics, runtime)
    try:
        loop.recover("start", rebuild=True)
        while not stop():
            watch()
            loop.turn()
    finally:
        failpoints.point(f"{service}:stop.seen")
        loop.drop_producer()
        consumer.close()
        failpoints.point(f"{service}:stop.closed")


class _Loop:
    """What one slot remembers between batches: its producer, and where reading stands."""

    def __init__(
        self,
        step: Step,
        consumer: GroupConsumer,
        build_producer: Callable[[], TransactionalProducer],
        stop: Stop,
        health: Health,
        service: str,
        sparse_topics: frozenset[str],
        runtime: Runtime,
    ) -> None:
        self.producer: TransactionalProducer | None = None
        self._step = step
        self._consumer = consumer
        self._build_producer = build_producer
        self._stop = stop
        self._health = health
        self._service = service
        self._positions = Positions()
        self._sparse_topics = sparse_topics
        self._unsure_ends = UnsureEnds()
        self._observer = runtime.observer
        self._clock = runtime.clock

    def turn(self) -> None:
        """Take one batch through, or leave by `recover`."""
        records = self._consumer.take(self._step.limit)
        self._health.beat()
        self._health.unread = self._consumer.unread
        assert self.producer is not None  # noqa: S101 - recover leaves one, or the loop ends
        if self._consumer.moved:
            self.recover("assignment")
        elif taint := self.producer.tainted():
            self._recover_tainted(taint)
        elif records:
            self._point("taken")
            self._take_in(records, self.producer)
        elif self._step.pending():
            self._process(Batch((), self._positions, self._positions), self.producer)

    def _take_in(self, records: Sequence[InputRecord], producer: TransactionalProducer) -> None:
        match self._positions.accept(records, owned=self._consumer.owned):
            case Rewind() as rewind:
                self._positions = rewind.positions
                if rewind.is_hole:
                    gap = rewind.gap
                    self._observer.log(
                        "warning", "offsets.empty", partition=str(gap.partition), due=gap.due, found=gap.found
                    )
                self.recover("gap")
            case batch:
                self._positions = batch.before
                if self._read_again(batch.reread) and batch.records:
                    self._process(batch, producer)

    def _process(self, batch: Batch, producer: TransactionalProducer) -> None:
        started = self._clock.perf_counter()
        # Metadata belongs to its batch: no poll lies between, so no rebalance either. Older metadata would fence
        # no zombie, newer metadata would authorise partitions that moved away.
        group_metadata = self._consumer.group_metadata()
        if generation(group_metadata) < 0:
            self.recover("not a member")
            return
        self._point("metadata")
        plan = self._decide(batch.records)
        decided = self._clock.perf_counter()
        match plan:
            case None:
                return
            case Publish():
                if found := batch.after.complaint(plan.offsets):
                    raise ContractError(
                        f"the step wants to commit {found}", cure="mend the step; nothing was published"
                    )
                if not self._publish(plan, group_metadata, producer):
                    return
                self._advance(batch.after.published(plan.offsets))
            case Keep():
                self._advance(batch.after)
        self._observe(batch.records, plan, started, decided)

    def _decide(self, batch: Sequence[InputRecord]) -> Plan | None:
        """Return the step's plan, or None once recovered from a step that has none."""
        try:
            return self._step.decide(batch)
        except Busy as busy:
            self._observer.log("warning", "batch.postponed", records=len(batch), cause=str(busy))
            self.recover("busy", pause=True)
        except Quarantine as quarantine:
            self._observer.log(
                "error",
                "partition.quarantined",
                partitions=[str(p) for p in quarantine.partitions],
                cause=str(quarantine),
                exc_info=quarantine,
            )
            self._consumer.hold(quarantine.partitions)
            self._observer.set(metrics.QUARANTINED, len(self._consumer.held))
            self.recover("quarantine")
        except Poison as poison:
            self._observer.log("warning", "batch.poisoned", records=len(batch), cause=str(poison))
            self._step.narrow()
            self.recover("poison")
        return None

    def _publish(self, plan: Publish, group_metadata: Any, producer: TransactionalProducer) -> bool:
        """Publish in a transaction; return False once recovered from an end that is not known to be a commit."""
        if taint := producer.tainted():
            self._recover_tainted(taint)
            return False
        self._point("before_begin")
        end = producer.publish(plan, group_metadata, stopping=self._stop)
        self._observer.count(metrics.TRANSACTIONS, end.name.lower())
        if end is not End.COMMITTED:
            self._unsure_ends.count(fenced=producer.fenced)
            if producer.fenced:
                self._count_fence()
            self.recover("unsure end", rebuild=True)
            return False
        self._point("committed")
        self._settle(plan)
        return True

    def _settle(self, plan: Publish) -> None:
        self._unsure_ends.clean()
        self._step.settled(plan)

    def _advance(self, positions: Positions) -> None:
        """Go on behind the batch: it is committed, or the step keeps it."""
        self._positions = positions
        self._consumer.report_lag(positions.due)
        self._point("advanced")

    def _recover_tainted(self, taint: str) -> None:
        self._observer.count(metrics.TAINTS, taint)
        self.recover(taint, rebuild=True)

    def recover(self, cause: str, *, rebuild: bool = False, pause: bool = False) -> None:
        """Go back to what the broker says is committed: the only way out of a failed batch.

        1. Drop a tainted producer and build one with the same id; that settles its open transaction.
        2. Read the committed offsets, once pending ones are settled.
        3. Seek every owned partition there, and let the step forget what it remembers.
        4. If the database is away: stay in the group, paused, until it answers; then the same again.
        """
        self._point("enter")
        self._observer.count(metrics.RECOVERIES, cause)
        self._observer.log("info", "recovery.started", cause=cause, rebuild=rebuild, pause=pause)
        if rebuild:
            self.drop_producer()
            self._observer.count(metrics.PRODUCER_REBUILDS, cause)
            self._point("dropped")
            self.producer = self._initialised_producer()
            self._point("inited")
        self._rewind()
        if pause:
            self._wait_paused()
            self._rewind()
        self._health.ready = self._consumer.joined and not self._stop()

    def _initialised_producer(self) -> TransactionalProducer | None:
        """Return a producer that owns the slot; None if a stop came first. A broker that is away is waited for."""
        for attempt in count():
            producer = self._build_producer()
            given_up_at = self._clock.monotonic() + INITIALISE_SECONDS
            while not self._stop() and self._clock.monotonic() < given_up_at:
                self._health.beat()
                try:
                    producer.initialise()
                except KafkaException as error:
                    self._judge_initialisation(error)
                    if classify(error.args[0]) is not ErrorKind.RETRIABLE:
                        break
                else:
                    return producer
            producer.drop()
            if self._back_off(attempt):
                break
        return None

    def drop_producer(self) -> None:
        """Let go of the producer, if there is one."""
        if self.producer is not None:
            self.producer.drop()
            self.producer = None

    def _judge_initialisation(self, error: KafkaException) -> None:
        cause = error.args[0]
        self._observer.log("warning", "producer.refused", kind=classify(cause), error=cause.name(), text=cause.str())
        if is_fenced(cause):
            self._count_fence()
        if cause.code() in {
            cause.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            cause.CLUSTER_AUTHORIZATION_FAILED,
            cause.INVALID_TRANSACTION_TIMEOUT,
        }:
            raise FatalError(f"the broker refuses this transactional id: {cause.str()}") from error

    def _rewind(self) -> None:
        """Seek every owned partition to its committed offset; whatever is in hand or prefetched is forgotten."""
        started = self._clock.monotonic()
        for attempt in count():
            if self._stop():
                return
            self._health.beat()
            try:
                stable = self._consumer.committed()
            except Busy as busy:
                self._report_unstable(busy, self._clock.monotonic() - started)
                self._back_off(attempt)
                self._consumer.take(1)  # keeps the membership; what it returns is sought again
                continue
            self._point("committed_read")
            if self._consumer.seek({partition: point.offset for partition, point in stable.items()}):
                break
            self._consumer.take(1)
        self._positions = self._positions.rewound(stable, sparse_topics=self._sparse_topics)
        self._step.reset(stable)
        self._consumer.report_lag(self._positions.due)
        self._point("seeked")

    def _report_unstable(self, busy: Busy, seconds: float) -> None:
        level: Level = "error" if seconds > STABLE_OFFSETS_ALARM_SECONDS else "warning"
        self._observer.log(level, "offsets.unstable", cause=str(busy), seconds=round(seconds, 1))

    def _wait_paused(self) -> None:
        self._observer.count(metrics.PAUSES)
        self._health.ready = False
        self._consumer.pause()
        for attempt in count():
            if self._back_off(attempt) or self._step.ready():
                break
            self._health.beat()
            self._consumer.take(1)  # nothing comes while paused; the poll keeps the membership

    def _read_again(self, partitions: Mapping[Partition, int]) -> bool:
        """Seek these partitions to where they were due; return False once recovered instead.

        Nothing of them was given to the step since the rewind, so a seek of theirs alone is enough.
        """
        if not partitions:
            return True
        self._observer.log("debug", "offsets.doubted", partitions=[str(partition) for partition in partitions])
        if self._consumer.seek(partitions):
            return True
        self.recover("assignment")
        return False

    def _count_fence(self) -> None:
        """Ask the group about a twin once fences repeat.

        A fence alone proves none: the broker's time-out, a packet that comes late and a program outside of the group
        look the same, and going on is safe. Of two members in one slot the group refuses the former.
        """
        self._observer.count(metrics.FENCES)
        now = self._clock.monotonic()
        if fences := self._unsure_ends.fences_too_many(now):
            self._observer.log("error", "slot.contested", fences=fences)
            self._health.ready = False
            self._consumer.pause()
            while not self._stop() and self._clock.monotonic() < now + TWIN_SECONDS:
                self._health.beat()
                self._consumer.take(1)  # raises FatalError if there is one; a rewind follows

    def _back_off(self, attempt: int) -> bool:
        """Wait 0.1 s, doubling to 5 s; return True if a stop was asked for."""
        least, most = BACK_OFF_SECONDS
        return self._stop.wait(min(least * 2 ** min(attempt, 10), most))

    def _observe(self, batch: Sequence[InputRecord], plan: Plan, started: float, decided: float) -> None:
        published = self._clock.perf_counter()
        if batch:
            self._observer.measure(metrics.BATCH_RECORDS, len(batch))
        self._observer.measure(metrics.BATCH_SECONDS, decided - started, "decide")
        if isinstance(plan, Keep):
            self._observer.log("debug", "batch.kept", records=len(batch))
            return
        self._observer.measure(metrics.BATCH_SECONDS, published - decided, "publish")
        self._observer.log(
            "info",
            "batch.committed",
            records=len(batch),
            outputs=len(plan.records),
            decide_ms=round((decided - started) * 1000, 1),
            publish_ms=round((published - decided) * 1000, 1),
        )

    def _point(self, name: str) -> None:
        failpoints.point(f"{self._service}:{name}")
