"""How an order's status follows from its events, in whatever sequence they are read."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated, OrderLine
from order_service.core.status import Lacking, OrderStatus, Status, StatusEvent, fold, join, status_from

ID = "01990b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"
LINES = (OrderLine("tea", 2), OrderLine("mug", 1))
CREATED = OrderCreated(ID, "ada", LINES, 1000)
RESERVED = InventoryReserved("e1", ID, "ada", LINES, 1000, 1005)
RESERVED_IN_PART = InventoryReserved("e1", ID, "ada", LINES[:1], 1000, 1005)
FAILED = InventoryFailed("e1", ID, "ada", LINES, Reason.INSUFFICIENT_STOCK, "mug", 1, 0, 1000, 1005)
SENT = NotificationSent("e2", ID, "ada", Kind.ORDER_CONFIRMED, "log", 1010)
SENT_LATER = NotificationSent("e2", ID, "ada", Kind.ORDER_CONFIRMED, "log", 1020)


def folded(events: Sequence[StatusEvent]) -> OrderStatus:
    (status,) = fold([status_from(event) for event in events])
    return status


def test_created_order_is_pending() -> None:
    assert folded([CREATED]) == OrderStatus(ID, "ada", Status.PENDING, LINES, placed_at_ms=1000)


def test_reserved_order_says_when_it_was_decided() -> None:
    assert folded([CREATED, RESERVED]) == OrderStatus(
        ID, "ada", Status.RESERVED, LINES, placed_at_ms=1000, decided_at_ms=1005
    )


def test_failed_order_says_why_and_what_lacked() -> None:
    status = folded([CREATED, FAILED])
    assert (status.status, status.reason, status.lacking) == (
        Status.FAILED,
        Reason.INSUFFICIENT_STOCK,
        Lacking("mug", 1, 0),
    )


def test_outcome_read_before_its_order_is_kept() -> None:
    assert folded([RESERVED, CREATED]) == folded([CREATED, RESERVED])


def test_notification_read_first_waits_for_the_rest() -> None:
    assert folded([SENT]).lines is None
    assert folded([SENT, CREATED, RESERVED]).notified_at_ms == 1010


def test_first_notification_counts() -> None:
    assert folded([SENT_LATER, SENT]).notified_at_ms == 1010


def test_fold_gives_one_status_per_order_in_lock_order() -> None:
    other = "00000b3c-5a00-7d3e-9f5c-3b7e6a1d2c4f"
    statuses = [status_from(CREATED), status_from(OrderCreated(other, "bob", LINES, 1)), status_from(RESERVED)]
    assert [(status.order_id, status.status) for status in fold(statuses)] == [
        (other, Status.PENDING),
        (ID, Status.RESERVED),
    ]


def test_lines_are_what_is_held_once_the_order_is_decided() -> None:
    assert folded([CREATED]).lines == LINES
    assert folded([CREATED, RESERVED_IN_PART]).lines == LINES[:1]


@pytest.mark.parametrize("outcome", [RESERVED, RESERVED_IN_PART, FAILED])
def test_sequence_of_events_does_not_matter(outcome: StatusEvent) -> None:
    results = {folded(events) for events in permutations([CREATED, outcome, SENT, SENT_LATER])}
    assert len(results) == 1


events: list[StatusEvent] = [CREATED, RESERVED_IN_PART, SENT, SENT_LATER]
statuses = st.lists(st.sampled_from(events), min_size=1).map(folded)


@given(statuses, statuses, statuses)
def test_join_is_idempotent_commutative_associative(a: OrderStatus, b: OrderStatus, c: OrderStatus) -> None:
    assert join(a, a) == a
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))


@given(st.lists(st.sampled_from([CREATED, FAILED, SENT]), min_size=1))
def test_decided_order_never_goes_back(events: Sequence[StatusEvent]) -> None:
    decided = folded([FAILED])
    assert join(decided, folded(events)).status is Status.FAILED
