"""Take an order in: event first, no outbox.

Effects in order: the key's row with the event bytes (if a key came), those bytes on the topic, the acknowledgement,
the mark on the row. A crash anywhere between leaves a row whose next retry sends the same bytes again; so the topic
holds an accepted order at least once, and readers take it once. What the client hears is never more than is true:
"accepted" follows the broker's acknowledgement, "not accepted" its refusal of the only attempt there was, and without
either the answer is "maybe".
"""

import time
from dataclasses import dataclass, replace

import uuid_utils

from common.events.orders import OrderCreated
from common.log import get_logger
from onceloop import failpoints
from onceloop.errors import Busy
from onceloop.kafka.acked_producer import NotWritten, Unacknowledged
from order_service.core.idempotency import Claim, KeyRow, fingerprint, judge
from order_service.core.placement import PlaceOrder, place_order
from order_service.io.key_store import KeyStore
from order_service.io.publisher import Publisher

ACK_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 5.5
"""From the moment a thread takes the request to a 503, what the database took included."""

log = get_logger()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order is on the topic, acknowledged.

    `replayed`: it is the order of an earlier request with the key, whatever that one was answered, if anything.
    `again`: the broker had acknowledged it to that one already, so nothing was sent now.
    """

    order_id: str
    replayed: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """The key was used for another order."""


@dataclass(frozen=True, slots=True)
class NotAccepted:
    """It was refused: the order is not on the topic. Its key may be used again for the same order.

    `here_alone`: by this process's client, so that another one may have published the order of the same key.
    """

    why: str
    here_alone: bool = False


@dataclass(frozen=True, slots=True)
class Unsure:
    """No acknowledgement came: the order may be on the topic, now or within seconds.

    `why`: what the broker says to a repetition, whose former attempt may have been written; else empty.
    """

    why: str = ""


Placement = Accepted | KeyConflict | NotAccepted | Unsure


class Intake:
    """The way from a command to the topic; shared by all threads."""

    def __init__(self, keys: KeyStore, publisher: Publisher) -> None:
        self._keys = keys
        self._publisher = publisher

    def place(self, command: PlaceOrder, *, key: str | None, as_sent: PlaceOrder) -> Placement:
        """Place the order, or the one that the key stands for already.

        `as_sent`: the command with its names as they came, by which the row of an older release is found. Raises Busy
        if nothing was attempted on the topic: no schema yet, or a key came and the database is away.
        """
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        identity = uuid_utils.uuid7()
        order = place_order(command, order_id=str(identity), placed_at_ms=identity.timestamp)
        event = self._publisher.encode(order)
        if key is None:
            return self._publish(order.order_id, event, order, deadline=deadline)
        offered = KeyRow(command.user_id, key, fingerprint(command), order.order_id, event)
        standing = self._standing(offered, spelled=as_sent.user_id)
        failpoints.point("order:key.stored")
        claim = judge(offered, standing, as_sent=fingerprint(as_sent))
        if claim is Claim.CONFLICT:
            return KeyConflict()
        if standing.acknowledged:
            return Accepted(standing.order_id, replayed=True, again=True)
        known = order if standing is offered else None
        placement = self._publish(standing.order_id, standing.event, known, deadline=deadline)
        if isinstance(placement, Accepted):
            self._mark(standing)
            return replace(placement, replayed=claim is Claim.REPLAY)
        if isinstance(placement, NotAccepted) and (claim is Claim.REPLAY or placement.here_alone):
            return Unsure(placement.why)  # what became of another request with this key is unknown
        return placement

    def _standing(self, offered: KeyRow, *, spelled: str) -> KeyRow:
        """Return the row that stands under the key, looking first where an older release put it."""
        if spelled != offered.user_id and (earlier := self._keys.find(spelled, offered.key)) is not None:
            return earlier
        return self._keys.claim(offered)

    def _publish(
        self, order_id: str, event: bytes, order: OrderCreated | None = None, *, deadline: float
    ) -> Accepted | NotAccepted | Unsure:
        try:
            delivery = self._publisher.send(event, order)
            failpoints.point("order:produced")
            delivery.wait(min(ACK_SECONDS_MAX, max(deadline - time.monotonic(), 0.0)))
        except NotWritten as error:
            log.warning("order.refused", order_id=order_id, refusal=error.refusal.name.lower(), reason=str(error))
            self._publisher.learn(error.refusal)
            return NotAccepted(error.refusal.value, here_alone=error.refusal.is_local)
        except Unacknowledged as error:
            log.warning("order.unacknowledged", order_id=order_id, reason=str(error))
            return Unsure()
        failpoints.point("order:acked")
        self._publisher.learn(None)
        return Accepted(order_id)

    def _mark(self, row: KeyRow) -> None:
        try:
            self._keys.acknowledge(row)
        except Busy as error:
            # The order is accepted all the same; the next retry sends its bytes once more and marks then.
            log.warning("key.unmarked", order_id=row.order_id, reason=str(error))
        failpoints.point("order:key.marked")
