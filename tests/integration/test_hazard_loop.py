"""The transactional loop on a real broker, with a step that repeats what it reads: what goes wrong inside a process.

The producer's client is wrapped, so that a callback can raise, a queue be small and a commit mask itself; the broker
is real. Each input record must have one visible output, whatever happened on the way.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Self

import confluent_kafka
import pytest
import structlog

from common.kafka.members import member_options, writer_options
from common.telemetry import RUNTIME
from common.topics import INVENTORY, INVENTORY_RESERVED, ORDERS_CREATED
from onceloop import transactional as transactional_loop
from onceloop import unsure_ends
from onceloop.errors import ContractError, FatalError
from onceloop.health import Health
from onceloop.kafka.group_consumer import GroupConsumer, generation
from onceloop.kafka.transactional_producer import End, TransactionalProducer
from onceloop.lifecycle import Stop
from onceloop.records import CommitPoint, InputRecord, OutputRecord, Partition, Publish, next_offsets
from tests.pipeline import Pipeline
from tests.records import read, wait_for, write

BATCH, RECORDS = 20, 40
LINGERING: Mapping[str, Any] = {"linger.ms": 200}
Wrap = Callable[[Any], Any]
Points = Mapping[Partition, CommitPoint]
Cover = Callable[[Points], Points]


class Repeat:
    """A step that answers each record with itself; it remembers what it was given."""

    limit = BATCH

    def __init__(self, topic: str, cover: Cover) -> None:
        self._topic = topic
        self._cover = cover
        self.given: list[str] = []

    def decide(self, batch: Sequence[InputRecord]) -> Publish:
        self.given += [(record.value or b"").decode() for record in batch]
        records = [OutputRecord(self._topic, record.key, record.value) for record in batch]
        return Publish(records=records, offsets=self._cover(next_offsets(batch)))

    def pending(self) -> bool:
        return False

    def settled(self, published: Publish) -> None: ...

    def narrow(self) -> None: ...

    def reset(self, stable: Mapping[Partition, CommitPoint]) -> None: ...

    def ready(self) -> bool:
        return True


class Client:
    """The real client, but for what a test overrides."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Loop:
    """The loop in a thread of its own.

    `wrap` is put around each producer's client, `cover` around each plan's offsets; `options` are the producer's.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        wrap: Wrap = lambda client: client,
        cover: Cover = lambda offsets: offsets,
        **options: Any,
    ) -> None:
        self.step = Repeat(INVENTORY_RESERVED.within(pipeline.namespace), cover)
        self.stop = Stop()
        self.failed: BaseException | None = None
        self.producers = 0
        self._wrap = wrap
        self._producing = {**writer_options(pipeline.kafka, INVENTORY, slot=0), **options}
        self._consumer = GroupConsumer(
            member_options(pipeline.kafka, INVENTORY, slot=0),
            [ORDERS_CREATED.within(pipeline.namespace)],
            service=INVENTORY.name,
            runtime=RUNTIME,
        )
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the loop does not stop"

    def _build(self) -> TransactionalProducer:
        producer = TransactionalProducer(self._producing, service="inventory", runtime=RUNTIME)
        producer._producer = self._wrap(producer._producer)
        self.producers += 1
        return producer

    def _run(self) -> None:
        try:
            transactional_loop.run(
                self.step,
                consumer=self._consumer,
                build_producer=self._build,
                stop=self.stop,
                health=Health(),
                service="inventory",
                runtime=RUNTIME,
            )
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failed = error


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    return make_pipeline(partitions=2)


def producer_in(pipeline: Pipeline, *, slot: int) -> TransactionalProducer:
    """Return a producer that has just taken the slot's epoch."""
    options = writer_options(pipeline.kafka, INVENTORY, slot=slot)
    producer = TransactionalProducer(options, service="inventory", runtime=RUNTIME)
    producer.initialise()
    return producer


def load(pipeline: Pipeline, *, partition: int = -1) -> list[str]:
    """Write numbers; return them."""
    values = [str(number) for number in range(RECORDS)]
    write(pipeline, ORDERS_CREATED, ((value.encode(), value.encode()) for value in values), partition=partition)
    return values


def published(pipeline: Pipeline) -> list[str]:
    return [(seen.value or b"").decode() for seen in read(pipeline, INVENTORY_RESERVED)]


def assert_published_once(pipeline: Pipeline, loop: Loop, values: Sequence[str]) -> None:
    wait_for(lambda: len(published(pipeline)) >= len(values) or loop.failed is not None, what="an output for each")
    assert loop.failed is None
    assert sorted(published(pipeline)) == sorted(values)


@pytest.mark.parametrize(("nth", "comes_again"), [(1, True), (BATCH, False)], ids=["commit stopped", "commit masked"])
def test_callback_that_raises_inside_a_commit_publishes_nothing_twice(
    pipeline: Pipeline, nth: int, *, comes_again: bool
) -> None:
    """H15, H16: an error of a callback takes the place of the commit's answer, whether it worked or not.

    Fault: a delivery callback raises inside the commit: at the first report, which stops the commit, or at the last,
    which leaves it to work unseen. Must hold: the end counts as unknown, the committed offsets decide whether the batch
    comes again, each record is published once.
    """
    reports: list[str] = []

    class Raising(Client):
        def produce(self, *args: Any, **kwargs: Any) -> None:
            self._real.produce(*args, **kwargs, on_delivery=self._raise_once)

        def _raise_once(self, *_: Any) -> None:
            reports.append("report")
            if len(reports) == nth:
                raise ValueError("a callback's own bug")

    values = load(pipeline, partition=0)  # all there before the first fetch, and in one: each batch is a full one
    with structlog.testing.capture_logs() as logs, Loop(pipeline, wrap=Raising, **LINGERING) as loop:
        assert_published_once(pipeline, loop, values)
        assert loop.producers == 2
    assert [line["error"] for line in logs if line["event"] == "transaction.unsure"] == ["ValueError"]
    assert len(loop.step.given) == len(values) + (BATCH if comes_again else 0)


def test_queue_that_is_full_skips_no_record(pipeline: Pipeline) -> None:
    """H43: a record that was refused by a full queue and skipped would be lost, its offset committed.

    Fault: a queue of 10 for batches of 20. Must hold: every record is published once.
    """
    full: list[str] = []

    class Counting(Client):
        def produce(self, *args: Any, **kwargs: Any) -> None:
            try:
                self._real.produce(*args, **kwargs)
            except BufferError:
                full.append("full")
                raise

    options: dict[str, Any] = {"queue.buffering.max.messages": 10, "linger.ms": 20}
    with Loop(pipeline, wrap=Counting, **options) as loop:
        assert_published_once(pipeline, loop, load(pipeline))
        assert loop.producers == 1
    assert full, "the queue was full"


def test_fatal_error_while_stopping_ends_in_order(pipeline: Pipeline) -> None:
    """H33, H47: the producer dies in the middle of a batch, and the stop comes at that very moment.

    Fault: another producer takes the slot's epoch inside the transaction, then the stop is asked for. Must hold: the
    loop ends at once and without an error; the next one publishes every record once.
    """
    fenced: list[str] = []

    class Fenced(Client):
        def send_offsets_to_transaction(self, *args: Any) -> None:
            self._real.send_offsets_to_transaction(*args)
            producer_in(pipeline, slot=0)
            fenced.append("fenced")
            loop.stop.set()

    values = load(pipeline)
    loop = Loop(pipeline, wrap=Fenced)
    with structlog.testing.capture_logs() as logs, loop:
        wait_for(lambda: bool(fenced), what="the loss of the epoch")
    assert loop.failed is None
    assert [line["error"] for line in logs if line["event"] == "transaction.unsure"] == ["_FENCED"]
    assert published(pipeline) == []
    with Loop(pipeline) as again:
        assert_published_once(pipeline, again, values)


class Fences:
    """A wrapper whose client loses the slot's epoch to another producer inside its first transactions."""

    def __init__(self, pipeline: Pipeline, times: int) -> None:
        self._pipeline = pipeline
        self.left = times

    def __call__(self, client: Any) -> Client:
        fences = self

        class Fenced(Client):
            def send_offsets_to_transaction(self, *args: Any) -> None:
                self._real.send_offsets_to_transaction(*args)
                if fences.left:
                    fences.left -= 1
                    producer_in(fences._pipeline, slot=0)

        return Fenced(client)


def test_epoch_that_is_taken_again_and_again_ends_no_process_while_the_group_knows_of_no_twin(
    pipeline: Pipeline,
) -> None:
    """H8: a late packet, a time-out of the broker and another program fence as a twin does; the group knows which.

    Fault: another producer takes the epoch inside five transactions in a row. Must hold: the loop says that the slot is
    contested, asks the group, and goes on; each record is published once.
    """
    values = load(pipeline)
    with structlog.testing.capture_logs() as logs, Loop(pipeline, wrap=Fences(pipeline, 5)) as loop:
        assert_published_once(pipeline, loop, values)
    assert [line["fences"] for line in logs if line["event"] == "slot.contested"] == [4, 4]


def test_epoch_that_is_taken_for_ever_ends_the_process_which_says_what_is_known(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H8: only a person can help then. Must hold: nothing was published, and no twin is claimed that was not seen."""
    monkeypatch.setattr(unsure_ends, "UNSURE_ENDS_MAX", 5)
    monkeypatch.setattr(transactional_loop, "TWIN_SECONDS", 0.5)
    load(pipeline)
    with Loop(pipeline, wrap=Fences(pipeline, 1000)) as loop:
        wait_for(lambda: loop.failed is not None, what="the end of the loop")
    assert isinstance(loop.failed, FatalError)
    assert "6 transactions in a row did not end cleanly, 6 of them because a newer producer" in loop.failed.message
    assert published(pipeline) == []


def elsewhere(offsets: Points) -> Points:
    return {Partition(partition.topic, 7): point for partition, point in offsets.items()}


def ahead(offsets: Points) -> Points:
    return {partition: CommitPoint(point.offset + 1) for partition, point in offsets.items()}


class BehindLater:
    """The first plan as it is, all later ones at the beginning."""

    def __init__(self) -> None:
        self._passed = False

    def __call__(self, offsets: Points) -> Points:
        offsets, self._passed = dict.fromkeys(offsets, CommitPoint(0)) if self._passed else offsets, True
        return offsets


@pytest.mark.parametrize(
    ("cover", "reported", "sound"),
    [(ahead, "would be lost", False), (BehindLater(), "would come again", True), (elsewhere, "another member", False)],
    ids=["ahead", "behind", "not owned"],
)
def test_plan_whose_offsets_would_lose_or_repeat_records_ends_the_loop_before_anything_is_published(
    pipeline: Pipeline, cover: Cover, reported: str, *, sound: bool
) -> None:
    """A step gets its offsets wrong: the broker would take them, and lose or repeat records in silence.

    Fault: one too many, one below what is committed, another member's. Must hold: nothing of that batch is published,
    no offset moves, the loop ends and says which one.
    """
    values = load(pipeline, partition=0)  # two batches or more
    with Loop(pipeline, cover=cover) as loop:
        wait_for(lambda: loop.failed is not None, what="the end of the loop")
    assert isinstance(loop.failed, ContractError)
    assert reported in loop.failed.message
    partition = Partition(ORDERS_CREATED.within(pipeline.namespace), 0)
    offset = pipeline.admin.committed(INVENTORY)[partition].offset
    assert (offset > 0) == sound
    assert sorted(published(pipeline), key=int) == values[:offset]


def test_idle_restart_publishes_nothing(pipeline: Pipeline) -> None:
    """H34, H35: an offset that is one too low would bring the last record again at each restart, one too high lose one.

    Fault: a restart with nothing new, then with one new record per partition. Must hold: nothing, then just those.
    """
    with Loop(pipeline) as loop:
        values = load(pipeline)
        assert_published_once(pipeline, loop, values)
    for number in range(2):
        write(pipeline, ORDERS_CREATED, [(b"k", b"new")], partition=number)
    with Loop(pipeline) as again:
        assert_published_once(pipeline, again, [*values, "new", "new"])
    assert again.step.given == ["new", "new"]


def test_metadata_from_before_the_join_is_refused_for_static_members_alone(pipeline: Pipeline) -> None:
    """H10, H45: offsets with metadata that knows no generation, while the group has a live member.

    Fault: a consumer that never joined lends its metadata. Must hold: the broker refuses it for a static member, of
    this slot or another; without an instance id it lets the offset go back in silence, which is why options that take
    the id away are refused, and why the loop refuses such metadata before the broker is asked.
    """
    partition = Partition(ORDERS_CREATED.within(pipeline.namespace), 0)
    with Loop(pipeline) as loop:
        assert_published_once(pipeline, loop, load(pipeline))
        before = pipeline.admin.committed(INVENTORY)[partition]
        assert before.offset > 0
        for slot, error in ((0, "FENCED_INSTANCE_ID"), (1, "UNKNOWN_MEMBER_ID"), (None, None)):
            options = member_options(pipeline.kafka, INVENTORY, slot=slot or 0)
            if slot is None:
                del options["group.instance.id"]
            with closing(confluent_kafka.Consumer(options)) as stranger, structlog.testing.capture_logs() as logs:
                metadata = stranger.consumer_group_metadata()
                assert generation(metadata) < 0
                plan = Publish(records=[], offsets={partition: CommitPoint(0)})
                end = producer_in(pipeline, slot=1).publish(plan, metadata, stopping=lambda: False)
            found = pipeline.admin.committed(INVENTORY)[partition]
            if error:
                unsure = [line["error"] for line in logs if line["event"] == "transaction.unsure"]
                assert (end, unsure, found) == (End.UNKNOWN, [error], before)
            else:
                assert (end, found.offset) == (End.COMMITTED, 0)
