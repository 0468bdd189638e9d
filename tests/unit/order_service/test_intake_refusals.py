"""What a client is answered when the broker refuses an order, with stand-ins for the key's table and the topic."""

from collections.abc import Callable
from typing import cast

import pytest

from common.events.orders import OrderCreated
from onceloop.kafka.acked_producer import Delivery, NotWritten, Unacknowledged
from onceloop.kafka.errors import Refusal
from order_service.core.idempotency import KeyRow
from order_service.core.placement import PlaceOrder
from order_service.io.intake import Accepted, Intake, NotAccepted, Unsure
from order_service.io.key_store import KeyStore
from order_service.io.publisher import Publisher
from tests.factories import make_order

ORDER = PlaceOrder("ada", make_order().lines)


class Keys:
    """Keeps the first row per key, as the table does."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRow] = {}

    def claim(self, offered: KeyRow) -> KeyRow:
        return self.rows.setdefault(offered.key, offered)

    def acknowledge(self, row: KeyRow) -> None:
        self.rows[row.key] = KeyRow(row.user_id, row.key, row.fingerprint, row.order_id, row.event, acknowledged=True)


class Topic:
    """Takes what it is sent, or raises `error`."""

    def __init__(self) -> None:
        self.error: Unacknowledged | None = None
        self.written: list[bytes] = []
        self.learnt: list[Refusal | None] = []

    def encode(self, order: OrderCreated) -> bytes:
        return order.order_id.encode()

    def send(self, event: bytes, _order: OrderCreated | None = None) -> Delivery:
        if self.error is not None:
            raise self.error
        self.written.append(event)
        return Delivery(0)

    def learn(self, refusal: Refusal | None) -> None:
        self.learnt.append(refusal)


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def place(keys: Keys, topic: Topic) -> Callable[[str | None], object]:
    intake = Intake(cast("KeyStore", keys), cast("Publisher", topic))
    return lambda key: intake.place(ORDER, key=key, as_sent=ORDER)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("refusal", [each for each in Refusal if not each.is_local])
def test_order_that_the_broker_refuses_is_not_accepted_and_says_why(
    place: Callable[[str | None], object], topic: Topic, refusal: Refusal, key: str | None
) -> None:
    topic.error = NotWritten(refusal, "from the broker")
    assert place(key) == NotAccepted(refusal.value)
    assert topic.learnt == [refusal]


@pytest.mark.parametrize("refusal", [each for each in Refusal if each.is_local])
def test_refusal_of_this_process_alone_does_not_speak_for_another_with_the_same_key(
    place: Callable[[str | None], object], topic: Topic, refusal: Refusal
) -> None:
    """Red before: "not accepted", although the other process had found the row and published the order."""
    topic.error = NotWritten(refusal, "from the client")
    assert place("k") == Unsure(refusal.value)
    assert place(None) == NotAccepted(refusal.value, here_alone=True)


def test_refused_order_is_taken_under_its_key_once_the_cause_is_gone__and_once(
    place: Callable[[str | None], object], keys: Keys, topic: Topic
) -> None:
    topic.error = NotWritten(Refusal.CLOCK, "from the broker")
    place("k")
    topic.error = None
    order_id = keys.rows["k"].order_id
    assert place("k") == Accepted(order_id, replayed=True)
    assert place("k") == Accepted(order_id, replayed=True, again=True)
    assert topic.written == [order_id.encode()]
    assert topic.learnt == [Refusal.CLOCK, None]


def test_refusal_of_a_repetition_does_not_speak_for_the_first_request(
    place: Callable[[str | None], object], topic: Topic
) -> None:
    """That one may have been written before its answer was lost."""
    topic.error = Unacknowledged("no acknowledgement within 5.0 s")
    assert place("k") == Unsure()
    topic.error = NotWritten(Refusal.FORBIDDEN, "from the broker")
    assert place("k") == Unsure(Refusal.FORBIDDEN.value)
