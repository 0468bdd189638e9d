"""Read topics as a foreign reader would: the partitions asked for, read_committed, from one offset to another.

Nothing is joined and nothing is committed, so no group of the pipeline notices. The reader goes on where it stopped:
a wait and the judgement after it read each record once.
"""

import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Self, cast

from confluent_kafka import KafkaError, Message

from audit.books import Stall
from audit.errors import StoreDownError
from audit.readers.cluster import EARLIEST, Cluster
from audit.readers.collector import Headers, Record
from audit.terms import Coordinate, Offsets, Spot
from common.topics import (
    DEAD_LETTER_TOPICS,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    METRICS_PARTIALS,
    MINUTE_VOLUMES,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
)

CONSUME_MAX = 5000
CONSUME_SECONDS = 0.05

DOWNSTREAM_FIRST = (
    *DEAD_LETTER_TOPICS,
    MINUTE_VOLUMES,
    METRICS_PARTIALS,
    NOTIFICATION_SENT,
    INVENTORY_RESERVED,
    INVENTORY_FAILED,
    ORDERS_CREATED,
)
"""Take ends in this order: whatever a record follows from is then below the end of its own topic."""

_CALL_HEADERS = methodcaller("headers")
_END_OF_PARTITION = KafkaError._PARTITION_EOF  # noqa: SLF001 - librdkafka's local codes are spelt so
_OFFSET_IS_GONE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001


class TopicReader:
    """Reads the partitions of `begins`, from there on; hands every record to `take`.

    A partition that is asked for later is taken up at its beginning. Where retention takes records away before they are
    read, reading goes on behind them.
    """

    def __init__(self, cluster: Cluster, begins: Offsets, take: Callable[[Record], None]) -> None:
        self._cluster = cluster
        self._take = take
        self._consumer = cluster.consumer(begins)
        self.positions = dict(begins)
        self._spots: dict[tuple[str | None, int | None], Spot] = {}
        self.begins = dict(begins)
        """From where on each partition was read without a gap."""
        self.last: dict[Spot, int] = {}
        """Offset of the last visible record per partition; a partition without records is absent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the consumer go."""
        self._consumer.close()

    def read_to(self, ends: Offsets, *, seconds: float) -> tuple[Stall, ...]:
        """Read until every partition stands at its end; return those that are held back after so long without news.

        Raises StoreDownError if the broker goes away.
        """
        self._take_up(self._cluster.offsets([spot for spot in ends if spot not in self.positions], EARLIEST))
        deadline = time.monotonic() + seconds
        behind = self._behind(ends)
        while behind and time.monotonic() < deadline:
            if messages := self._consumer.consume(CONSUME_MAX, CONSUME_SECONDS):
                for message in messages:
                    self._accept(message)
                behind = self._behind(ends)
                deadline = time.monotonic() + seconds
        if behind:
            self._cluster.ends([ORDERS_CREATED])  # the broker answers, so it is a transaction
        return tuple(Stall(Coordinate(*spot, self.positions[spot]), ends[spot]) for spot in behind)

    def forget(self, *topics: str) -> None:
        """Forget how far these were read: they were deleted, and others have their names now.

        The consumer goes as well: one that has seen a later leader epoch of the old topic never reads the new one.
        """
        for spot in [spot for spot in self.positions if spot.topic in topics]:
            del self.positions[spot], self.begins[spot]
            self.last.pop(spot, None)
        self._consumer.close()
        self._consumer = self._cluster.consumer(self.positions)

    def _take_up(self, begins: Offsets) -> None:
        self._cluster.assign_more(self._consumer, begins)
        self.positions |= begins
        self.begins |= begins

    def _behind(self, ends: Offsets) -> list[Spot]:
        return [spot for spot, end in ends.items() if self.positions[spot] < end]

    def _accept(self, message: Message) -> None:
        spot = self._spot(message)
        offset, error = message.offset() or 0, message.error()
        if error is None:
            self.positions[spot] = offset + 1
            self.last[spot] = offset
            self._take(
                Record(
                    at=Coordinate(*spot, offset),
                    key=message.key(),
                    value=message.value(),
                    headers=partial(headers_of, message),
                    timestamp=message.timestamp,
                )
            )
        elif error.code() == _END_OF_PARTITION:
            self.positions[spot] = max(self.positions[spot], offset)
        elif error.code() == _OFFSET_IS_GONE:
            self._go_on_behind(spot)
        else:
            raise StoreDownError(f"cannot read {spot.topic} {spot.partition}: {error.str()}")

    def _go_on_behind(self, spot: Spot) -> None:
        """Go on at the first record that is left. Raises StoreDownError if records have vanished at the other end."""
        begins = self._cluster.offsets([spot], EARLIEST)
        if begins[spot] <= self.positions[spot]:
            raise StoreDownError(
                f"{spot.topic} {spot.partition} ends before {self.positions[spot]}, where it was read to",
                cure="see whether a broker lost its log, or an operator recreated the topic; then verify again",
            )
        self._cluster.leave_out(self._consumer, spot)
        self._take_up(begins)

    def _spot(self, message: Message) -> Spot:
        where = message.topic(), message.partition()
        if where not in self._spots:
            self._spots[where] = Spot(self._cluster.short_name(where[0] or ""), where[1] or 0)
        return self._spots[where]


def headers_of(message: Message) -> Headers:
    """Return the headers, or none if a name is no text: the client then breaks in the middle of its list.

    `methodcaller` has the interpreter notice it here; after a plain call the exception surfaces in some later line.
    """
    try:
        return cast("Headers", _CALL_HEADERS(message))  # pairs, whatever a producer may pass
    except SystemError:
        return None
