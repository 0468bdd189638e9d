"""The plain consumer loop on a real broker: no record is skipped, and where the offsets live decides what repeats."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Self

import pytest
import sqlalchemy as sa

from common import metrics
from common.postgres.engine import create_engine
from common.topics import INVENTORY_RESERVED, NOTIFICATION
from onceloop import failpoints
from onceloop import plain as consumer_loop
from onceloop.errors import Busy, FatalError, Poison
from onceloop.health import Health
from onceloop.kafka.group_consumer import GroupConsumer
from onceloop.kafka.looking_back import earliest
from onceloop.kafka.options import admin_options, consumer_options
from onceloop.lifecycle import Stop
from onceloop.loop_core import next_offsets
from onceloop.plain import Offsets, OffsetsInGroup, OffsetsWithData, run
from onceloop.records import CommitPoint, InputRecord, Partition
from tests.pipeline import Pipeline
from tests.records import transactional_producer, wait_for, write

IMPATIENT: Mapping[str, Any] = {
    "session.timeout.ms": 2500,
    "heartbeat.interval.ms": 500,
    "max.poll.interval.ms": 3000,
}
Handle = Callable[[Sequence[InputRecord]], None]


class Member:
    """A member of the group whose loop runs in a thread of its own, until the block ends or the loop fails."""

    def __init__(
        self,
        pipeline: Pipeline,
        handle: Handle,
        *,
        slot: int = 0,
        limit: int = 10,
        store: "Store | None" = None,
        **options: Any,
    ) -> None:
        settings = pipeline.kafka.model_copy(update={"kafka_consumer_options": options})
        self._consumer = GroupConsumer(
            consumer_options(settings.kafka, group_id=NOTIFICATION.within(settings.namespace), slot=slot),
            [INVENTORY_RESERVED.within(pipeline.namespace)],
        )
        topic_ids = pipeline.admin.topic_ids([INVENTORY_RESERVED])
        self._offsets: Offsets = (
            OffsetsWithData(
                store,
                self._consumer,
                topic_ids=topic_ids,
                earliest=partial(earliest, admin_options(pipeline.kafka)),
            )
            if store
            else OffsetsInGroup(self._consumer, service="test", topic_ids=topic_ids, prove=lambda _offsets: None)
        )
        self._limit = limit
        self._thread = threading.Thread(target=self._run)
        self.handle = handle
        self.stop = Stop()
        self.health = Health()
        self.failed: Exception | None = None
        self.rejected: list[str] = []
        self.stopped_seconds = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asked = time.monotonic()
        self.stop.set()
        self._thread.join(20)
        self.stopped_seconds = time.monotonic() - asked
        assert not self._thread.is_alive(), "the loop does not stop"

    def reject(self, record: InputRecord, poison: Poison) -> None:
        assert str(poison)
        self.rejected.append((record.value or b"").decode())

    @property
    def owned(self) -> frozenset[Partition]:
        return self._consumer.owned

    def seen_ends(self) -> dict[Partition, int]:
        return {partition: tail.stable_end for partition, tail in self._consumer._lag._tails.items()}

    def _run(self) -> None:
        with closing(self._consumer):
            try:
                run(
                    self,
                    self._consumer,
                    offsets=self._offsets,
                    stop=self.stop,
                    health=self.health,
                    limit=self._limit,
                )
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.failed = error


class Store:
    """Records and positions side by side in PostgreSQL, written in one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def positions(self, partitions: frozenset[Partition]) -> Mapping[Partition, CommitPoint]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT number, following, topic FROM notification.position"))
            found = {Partition(row.topic, row.number): CommitPoint(row.following) for row in rows}
        return {partition: found[partition] for partition in partitions if partition in found}

    def handle(self, batch: Sequence[InputRecord]) -> None:
        first = {record.partition: record.offset for record in reversed(batch)}
        with self._engine.begin() as connection:
            for partition, point in next_offsets(batch).items():
                moved = connection.execute(
                    sa.text(
                        "INSERT INTO notification.position AS at VALUES (:topic, :number, :following)"
                        " ON CONFLICT (topic, number) DO UPDATE SET following = :following WHERE at.following <= :first"
                    ),
                    {**partition._asdict(), "following": point.offset, "first": first[partition]},
                )
                if moved.rowcount == 0:
                    raise Busy("another worker went on from here")
            connection.execute(
                sa.text("INSERT INTO notification.seen VALUES (:value)"),
                [{"value": (r.value or b"").decode()} for r in batch],
            )

    def seen(self) -> list[str]:
        with self._engine.connect() as connection:
            return list(connection.scalars(sa.text("SELECT value FROM notification.seen")))


@pytest.fixture
def store(pipeline: Pipeline) -> Iterator[Store]:
    with pipeline.administer() as connection:
        connection.exec_driver_sql("CREATE TABLE notification.seen (value text NOT NULL)")
        connection.exec_driver_sql(
            "CREATE TABLE notification.position"
            " (topic text, number int, following bigint NOT NULL, PRIMARY KEY (topic, number))"
        )
        connection.exec_driver_sql(
            "GRANT SELECT, INSERT, UPDATE ON notification.seen, notification.position TO notification_rw"
        )
    engine = create_engine(pipeline.postgres("notification_rw"), application="test", pool_size=2)
    yield Store(engine)
    engine.dispose()


class Notes:
    """A handler that remembers what it handled."""

    def __init__(self) -> None:
        self.batches: list[Sequence[InputRecord]] = []

    def __call__(self, batch: Sequence[InputRecord]) -> None:
        self.batches.append(batch)

    @property
    def values(self) -> list[str]:
        return [(record.value or b"").decode() for batch in self.batches for record in batch]


def write_numbers(pipeline: Pipeline, numbers: range, *, partition: int = -1) -> list[str]:
    values = [str(number) for number in numbers]
    write(pipeline, INVENTORY_RESERVED, ((v.encode(), v.encode()) for v in values), partition=partition)
    return values


def committed(pipeline: Pipeline) -> int:
    topic = INVENTORY_RESERVED.within(pipeline.namespace)
    return sum(point.offset for at, point in pipeline.admin.committed(NOTIFICATION).items() if at.topic == topic)


def test_each_record_is_handled_once_in_order_and_the_group_remembers(pipeline: Pipeline) -> None:
    values, first, second = write_numbers(pipeline, range(200)), Notes(), Notes()
    with Member(pipeline, first) as member:
        wait_for(lambda: committed(pipeline) == 200, what="all committed")
        assert member.health.ready
    assert member.stopped_seconds < 2
    assert Counter(first.values) == Counter(values)
    offsets: dict[Partition, int] = {}
    for batch in first.batches:
        assert len(batch) <= 10
        for record in batch:
            assert record.offset == offsets.get(record.partition, 0)
            offsets[record.partition] = record.offset + 1

    more = write_numbers(pipeline, range(200, 210))
    with Member(pipeline, second):
        wait_for(lambda: committed(pipeline) == 210, what="the rest committed")
    assert Counter(second.values) == Counter(more)


def lag() -> float | None:
    """Return what the worker says of itself, all its partitions together."""
    samples = [each for family in metrics.CONSUMER_LAG.collect() for each in family.samples]
    return sum(each.value for each in samples if each.labels["group"] == NOTIFICATION.name) if samples else None


def test_lag_of_a_worker_that_waits_is_all_it_has_to_do__and_none_behind_its_last_record(pipeline: Pipeline) -> None:
    waiting = True

    def handle(_batch: Sequence[InputRecord]) -> None:
        if waiting:
            raise Busy("as if the database were away")

    write_numbers(pipeline, range(500))
    with Member(pipeline, handle, limit=200) as member:
        wait_for(lambda: lag() == 500, what="a lag of 500")
        write_numbers(pipeline, range(7))
        wait_for(lambda: lag() == 507, what="a lag of 507, though nothing is fetched")
        waiting = False
        wait_for(lambda: committed(pipeline) == 507 and lag() == 0, what="no lag")

        producer = transactional_producer(pipeline)
        producer.begin_transaction()
        producer.produce(INVENTORY_RESERVED.within(pipeline.namespace), b"508", partition=0)
        producer.commit_transaction(20)
        wait_for(lambda: committed(pipeline) == 508, what="the record of the transaction committed")
        ends = pipeline.admin.stable_ends([INVENTORY_RESERVED])
        assert sum(ends.values()) == 509
        wait_for(lambda: member.seen_ends() == ends, what="the worker knows of the marker")
        wait_for(lambda: lag() == 0, what="no lag, though a marker lies behind the last record")


def test_crash_between_work_and_commit_repeats_the_batch(pipeline: Pipeline) -> None:
    values, before, after = write_numbers(pipeline, range(30), partition=0), Notes(), Notes()

    def crash_at_the_second(batch: Sequence[InputRecord]) -> None:
        before(batch)
        if len(before.batches) == 2:
            raise FatalError("as if killed")

    with Member(pipeline, crash_at_the_second) as crashing:
        wait_for(lambda: crashing.failed is not None, what="the crash")
    with Member(pipeline, after):
        wait_for(lambda: committed(pipeline) == 30, what="all committed")
    assert before.values + after.values == values[:20] + values[10:]


def test_busy_brings_the_same_batch_again_after_pauses_that_grow(pipeline: Pipeline) -> None:
    values, notes, tried = write_numbers(pipeline, range(30), partition=0), Notes(), list[int]()

    def busy_three_times(batch: Sequence[InputRecord]) -> None:
        tried.append(batch[0].offset)
        if tried.count(10) in range(1, 4):
            raise Busy("the database is away")
        notes(batch)

    started = time.monotonic()
    with Member(pipeline, busy_three_times) as member:
        wait_for(lambda: len(tried) > 2, what="the first pause")
        assert not member.health.ready
        wait_for(lambda: committed(pipeline) == 30, what="all committed")
        assert member.health.ready
    assert notes.values == values
    assert tried == [0, 10, 10, 10, 10, 20]
    assert time.monotonic() - started > 0.5 + 1.0 + 2.0


def test_busy_for_longer_than_the_poll_interval_costs_no_membership(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, notes, busy, passed = write_numbers(pipeline, range(10), partition=0), Notes(), [True], Counter[str]()
    monkeypatch.setattr(failpoints, "point", lambda name: passed.update([name]))
    monkeypatch.setattr(consumer_loop, "PAUSE_SECONDS_MIN", 4.5)

    def busy_once(batch: Sequence[InputRecord]) -> None:
        if busy:
            busy.clear()
            raise Busy("the database is away")
        notes(batch)

    with Member(pipeline, busy_once, **IMPATIENT) as member:
        wait_for(lambda: committed(pipeline) == 10, what="all committed")
        assert member.health.live()
    assert notes.values == values
    assert passed["notification:assigned"] == 1


def test_member_that_outlasts_its_membership_ends_and_the_batch_comes_again(pipeline: Pipeline) -> None:
    """Aim: no record is lost by a refused commit. Fault: the work outlasts max.poll.interval; a static member is then
    fenced by itself, and only a new process gets its place back."""
    values, notes = write_numbers(pipeline, range(10), partition=0), Notes()

    def outlast(batch: Sequence[InputRecord]) -> None:
        notes(batch)
        time.sleep(4.5)

    with Member(pipeline, outlast, **IMPATIENT) as member:
        wait_for(lambda: member.failed is not None, what="the end")
    assert isinstance(member.failed, FatalError)
    assert committed(pipeline) == 0
    with Member(pipeline, notes):
        wait_for(lambda: committed(pipeline) == 10, what="all committed")
    assert notes.values == values + values


def test_member_with_a_twin_in_its_slot_ends(pipeline: Pipeline) -> None:
    write_numbers(pipeline, range(10))
    with Member(pipeline, Notes()) as former:
        wait_for(lambda: committed(pipeline) == 10, what="all committed")
        with Member(pipeline, Notes()) as latter:
            wait_for(lambda: former.failed is not None, what="the end of the former")
            write_numbers(pipeline, range(10, 20))
            wait_for(lambda: committed(pipeline) == 20, what="the latter at work")
            assert latter.failed is None
    assert isinstance(former.failed, FatalError)


def test_handover_between_members_skips_no_record(pipeline: Pipeline) -> None:
    values, notes = write_numbers(pipeline, range(400)), Notes()

    def slowly(batch: Sequence[InputRecord]) -> None:
        notes(batch)
        time.sleep(0.1)

    with ExitStack() as members:
        first = members.enter_context(Member(pipeline, slowly))
        wait_for(lambda: len(notes.batches) > 3, what="the first member at work")
        second = members.enter_context(Member(pipeline, slowly, slot=1))
        wait_for(lambda: len(first.owned) == len(second.owned) == 4, what="half of the partitions each")
        wait_for(lambda: committed(pipeline) == 400, what="all committed")
    assert set(notes.values) == set(values)


def test_offsets_with_the_data_survive_crash_and_handover_without_a_repetition(
    pipeline: Pipeline, store: Store
) -> None:
    """Aim: work and offset happen together, once. Faults: a crash behind the commit, a second member, group offsets
    that never moved."""
    values, batches = write_numbers(pipeline, range(300)), Counter[str]()

    def crash_behind_the_third(batch: Sequence[InputRecord]) -> None:
        store.handle(batch)
        batches["handled"] += 1
        if batches["handled"] == 3:
            raise FatalError("as if killed")

    def slowly(batch: Sequence[InputRecord]) -> None:
        store.handle(batch)
        time.sleep(0.05)

    with Member(pipeline, crash_behind_the_third, store=store) as crashing:
        wait_for(lambda: crashing.failed is not None, what="the crash")
    assert 0 < len(store.seen()) <= 30
    with Member(pipeline, slowly, store=store), Member(pipeline, slowly, store=store, slot=1):
        wait_for(lambda: len(store.seen()) >= 300, what="all of it")
        write_numbers(pipeline, range(300, 310))
        wait_for(lambda: len(store.seen()) >= 310, what="what came later")
    assert Counter(store.seen()) == Counter(values + [str(number) for number in range(300, 310)])
    assert committed(pipeline) == 0


def test_zombie_with_an_old_batch_is_refused_by_the_store_and_rewinds(pipeline: Pipeline, store: Store) -> None:
    """Aim: a stale batch does no work twice. Fault: a member sleeps with its batch until another one has done it."""
    values, asleep, awake = write_numbers(pipeline, range(10), partition=0), threading.Event(), threading.Event()

    def oversleep_once(batch: Sequence[InputRecord]) -> None:
        if not asleep.is_set():
            asleep.set()
            assert awake.wait(30)
        store.handle(batch)

    with Member(pipeline, oversleep_once, store=store, **IMPATIENT) as zombie:
        assert asleep.wait(20)
        with Member(pipeline, store.handle, store=store, slot=1, **IMPATIENT):
            wait_for(lambda: len(store.seen()) == 10, what="the takeover")
        awake.set()
        more = write_numbers(pipeline, range(10, 20), partition=0)
        wait_for(lambda: len(store.seen()) == 20, what="the zombie at work again")
        assert zombie.failed is None
    assert Counter(store.seen()) == Counter(values + more)
