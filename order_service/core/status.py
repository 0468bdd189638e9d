"""Derive an order's status from its events. Pure.

Topics have no order among each other, and a crash repeats events: an outcome may be read before its order, and twice.
So a status only ever gains: `join` gives the same whatever comes first and however often (a semilattice, given that an
order has one outcome, which inventory_service guarantees). The SQL of `io/status_store.py` is the same join.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import NotificationSent
from common.events.orders import OrderCreated, OrderLine

StatusEvent = OrderCreated | InventoryReserved | InventoryFailed | NotificationSent


class Status(StrEnum):
    """pending -> reserved | failed, never back."""

    PENDING = "pending"
    RESERVED = "reserved"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Lacking:
    """The first line that lacked stock, in units."""

    sku: str
    requested: int
    available: int


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """What is known of an order. Times: epoch milliseconds, UTC.

    `lines`: what was asked for; of a reserved order what is held, which may be less. They and `placed_at_ms` are None
    as long as only a notification of the order is known.
    """

    order_id: str
    user_id: str
    status: Status = Status.PENDING
    lines: tuple[OrderLine, ...] | None = None
    placed_at_ms: int | None = None
    decided_at_ms: int | None = None
    reason: Reason | None = None
    lacking: Lacking | None = None
    notified_at_ms: int | None = None


def status_from(event: StatusEvent) -> OrderStatus:
    """Return the status that follows from one event alone."""
    match event:
        case OrderCreated():
            return OrderStatus(
                event.order_id, event.user_id, Status.PENDING, event.lines, placed_at_ms=event.placed_at_ms
            )
        case InventoryReserved():
            return OrderStatus(
                event.order_id,
                event.user_id,
                Status.RESERVED,
                event.lines,
                placed_at_ms=event.placed_at_ms,
                decided_at_ms=event.decided_at_ms,
            )
        case InventoryFailed():
            return OrderStatus(
                event.order_id,
                event.user_id,
                Status.FAILED,
                event.lines,
                placed_at_ms=event.placed_at_ms,
                decided_at_ms=event.decided_at_ms,
                reason=event.reason,
                lacking=Lacking(event.sku, event.requested, event.available),
            )
        case NotificationSent():
            return OrderStatus(event.order_id, event.user_id, notified_at_ms=event.sent_at_ms)
        case _:
            assert_never(event)


def join(known: OrderStatus, status: OrderStatus) -> OrderStatus:
    """Return both together: a decision stays with its lines, gaps are filled, the earliest notification counts."""
    decided, other = (status, known) if known.status is Status.PENDING else (known, status)
    return OrderStatus(
        order_id=known.order_id,
        user_id=known.user_id,
        status=decided.status,
        lines=decided.lines if decided.lines is not None else other.lines,
        placed_at_ms=known.placed_at_ms if known.placed_at_ms is not None else status.placed_at_ms,
        decided_at_ms=decided.decided_at_ms,
        reason=decided.reason,
        lacking=decided.lacking,
        notified_at_ms=_earliest(known.notified_at_ms, status.notified_at_ms),
    )


def fold(statuses: Iterable[OrderStatus]) -> list[OrderStatus]:
    """Return one status per order, by ascending order id: the one lock order of the table."""
    joined: dict[str, OrderStatus] = {}
    for status in statuses:
        known = joined.get(status.order_id)
        joined[status.order_id] = status if known is None else join(known, status)
    return [joined[order_id] for order_id in sorted(joined)]


def _earliest(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
