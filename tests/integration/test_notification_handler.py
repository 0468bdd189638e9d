"""The handler in this process, with a sender that only remembers: its trips to the database, and their order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from common.postgres.engine import create_engine
from common.topics import INVENTORY_RESERVED
from notification_service.io.handler import NotificationHandler
from notification_service.io.senders import Delivery, End, Letter
from onceloop import failpoints
from onceloop.errors import Busy
from onceloop.kafka.acked_producer import AckedProducer
from onceloop.lifecycle import Stop
from onceloop.records import InputRecord, Partition
from tests.notifications import ledger, make_reserved, sent
from tests.pipeline import Pipeline
from tests.records import codec_of


class RecordingSender:
    """Remembers the letters. `fails_at`: the number of the letter at which the channel breaks once."""

    channel = "test"
    records_max = 500

    def __init__(self, *, together: int, fails_at: int = -1) -> None:
        self.together = together
        self.sent: list[str] = []
        self._fails_at = fails_at

    def send(self, letter: Letter) -> Delivery:
        if len(self.sent) == self._fails_at:
            self._fails_at = -1
            raise Busy("the channel breaks")
        self.sent.append(letter.order_id)
        return Delivery(End.SENT)

    def close(self) -> None:
        pass


@pytest.fixture
def statements(pipeline: Pipeline) -> Iterator[tuple[sa.Engine, list[str]]]:
    """Return an engine and the statements that went through it."""
    seen: list[str] = []
    engine = create_engine(pipeline.postgres("notification_rw"), application="test", pool_size=1, autocommit=True)
    sa.event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2].split()[0]))
    yield engine, seen
    engine.dispose()


@pytest.fixture
def open_handler(
    pipeline: Pipeline, statements: tuple[sa.Engine, list[str]]
) -> Iterator[Callable[[RecordingSender], NotificationHandler]]:
    with closing(AckedProducer(pipeline.kafka.kafka)) as producer:
        yield lambda sender: NotificationHandler(
            engine=statements[0],
            codec=codec_of(pipeline),
            sender=sender,
            producer=producer,
            namespace=pipeline.namespace,
            mail_domain="shop.example",
            attempts_max=1,
            limit=None,
            seconds_max=60.0,
            stop=Stop(),
        )


OpenHandler = Callable[[RecordingSender], NotificationHandler]


def make_batch(pipeline: Pipeline, count: int) -> tuple[list[str], Sequence[InputRecord]]:
    """Return order ids, and the records that state their outcome."""
    codec, outcomes = codec_of(pipeline), [make_reserved() for _ in range(count)]
    partition = Partition(INVENTORY_RESERVED.within(pipeline.namespace), 0)
    records = [InputRecord(partition, at, b"ada", codec.encode(outcome)) for at, outcome in enumerate(outcomes)]
    return [outcome.order_id for outcome in outcomes], records


def test_batch_of_500_takes_one_claim_and_five_marks(
    pipeline: Pipeline, open_handler: OpenHandler, statements: tuple[sa.Engine, list[str]]
) -> None:
    sender = RecordingSender(together=100)
    order_ids, batch = make_batch(pipeline, 500)
    handler = open_handler(sender)
    handler.handle(batch)
    assert [word for word in statements[1] if word in {"INSERT", "UPDATE", "BEGIN"}] == ["INSERT", *["UPDATE"] * 5]
    assert sender.sent == order_ids
    assert {event.order_id for event in sent(pipeline)} == set(order_ids)
    del statements[1][:]
    handler.handle(batch)
    assert [word for word in statements[1] if word in {"INSERT", "UPDATE", "BEGIN"}] == ["INSERT"]
    assert sender.sent == order_ids


@pytest.mark.parametrize("together", [1, 4, 10])
def test_channel_that_breaks_in_the_middle_of_a_group_repeats_no_letter(
    pipeline: Pipeline, open_handler: OpenHandler, together: int
) -> None:
    sender = RecordingSender(together=together, fails_at=6)
    order_ids, batch = make_batch(pipeline, 10)
    handler = open_handler(sender)
    with pytest.raises(Busy, match="the channel breaks"):
        handler.handle(batch)
    handler.handle(batch)
    assert sender.sent == order_ids
    assert {row.state for row in ledger(pipeline).values()} == {"sent"}


def test_dead_letter_counts_once_it_is_published(pipeline: Pipeline, open_handler: OpenHandler) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("kafka_dead_letters_total", {"topic": INVENTORY_RESERVED.name}) or 0.0

    before = counted()
    handler = open_handler(RecordingSender(together=1, fails_at=0))
    garbage = InputRecord(Partition(INVENTORY_RESERVED.within(pipeline.namespace), 0), 1, b"ada", b"?")
    batch = [*make_batch(pipeline, 1)[1], garbage]
    with pytest.raises(Busy, match="the channel breaks"):
        handler.handle(batch)
    assert counted() == before
    handler.handle(batch)
    assert counted() == before + 1


def test_same_outcome_twice_in_a_batch_is_notified_once(pipeline: Pipeline, open_handler: OpenHandler) -> None:
    sender = RecordingSender(together=1)
    order_ids, batch = make_batch(pipeline, 2)
    open_handler(sender).handle([*batch, *batch])
    assert sender.sent == order_ids
    assert len(sent(pipeline)) == 2


def test_points_are_passed_in_the_order_of_the_effects(
    pipeline: Pipeline, open_handler: OpenHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []
    monkeypatch.setattr(failpoints, "point", passed.append)
    open_handler(RecordingSender(together=2)).handle(make_batch(pipeline, 3)[1])
    group = ["notification:before_send", "notification:sent", "notification:ledger.done"]
    assert passed == ["notification:taken", "notification:ledger.claimed", *group, *group]
