"""Records -> what the books keep of them. No client, no network: bytes in, values out.

Values are dropped as soon as they are digested, ids are shared texts, so that a million orders fit.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from chaos.checker.avro import UnreadableError, impossible
from chaos.checker.books import Created, DeadLetter, Outcome, Partial, Poison, Sent, Total, Undecodable, Verdict
from chaos.checker.terms import Coordinate, Spot
from common.topics import (
    DEAD_LETTER_TOPICS,
    INVENTORY_FAILED,
    INVENTORY_RESERVED,
    MESSAGE_BYTES_MAX,
    METRICS_PARTIALS,
    MINUTE_VOLUMES,
    NOTIFICATION_SENT,
    ORDERS_CREATED,
)

DEAD_LETTER_HEADERS = (
    "dlq_version",
    "dlq_reason",
    "dlq_error_class",
    "dlq_topic",
    "dlq_partition",
    "dlq_offset",
)
Headers = Sequence[tuple[str, bytes | None]] | None


class Record(NamedTuple):
    """One record as it stands on a topic.

    Headers and time stamp (its type, milliseconds since the epoch) are asked for where they matter: they cost.
    """

    at: Coordinate
    key: bytes | None
    value: bytes | None
    headers: Callable[[], Headers]
    timestamp: Callable[[], tuple[int, int]]


class Decoder(Protocol):
    """What reads values: the registry's schemas, outside of tests."""

    def decode(self, value: bytes | None, expected: str) -> dict[str, Any]:
        """Return the fields of the event, or raise UnreadableError."""


class Collector:
    """What the topics hold, by order. `namespace`: what stands in front of topic names inside headers."""

    def __init__(self, decoder: Decoder, *, namespace: str) -> None:
        self._decoder = decoder
        self._prefix = f"{namespace}." if namespace else ""
        self._take = {
            ORDERS_CREATED.name: self._take_created,
            INVENTORY_RESERVED.name: self._take_outcome,
            INVENTORY_FAILED.name: self._take_outcome,
            NOTIFICATION_SENT.name: self._take_sent,
            METRICS_PARTIALS.name: self._take_partial,
            MINUTE_VOLUMES.name: self._take_total,
            **{topic.name: self._take_dead_letter for topic in DEAD_LETTER_TOPICS},
        }
        self.created: dict[str, tuple[Created, ...]] = {}
        self.poison: list[Poison] = []
        self.outcomes: dict[str, tuple[Outcome, ...]] = {}
        self.sent: dict[str, tuple[Sent, ...]] = {}
        self.partials: list[Partial] = []
        self.totals: list[Total] = []
        self.dead_letters: list[DeadLetter] = []
        self.undecodable: list[Undecodable] = []

    def take(self, record: Record) -> None:
        """Keep what the books need of a record of any topic in the table."""
        self._take[record.at.topic](record)

    def _take_created(self, record: Record) -> None:
        try:
            order = self._decoder.decode(record.value, "OrderCreated")
        except UnreadableError as error:
            why = str(error)
        else:
            why = impossible(order)
        if why:
            self.poison.append(Poison(record.at, digest(record.key, record.value), why))
            return
        order_id = sys.intern(order["order_id"])
        lines = fingerprint([(line["sku"], line["quantity"]) for line in order["lines"]])
        user = sys.intern(order["user_id"])
        created = Created(record.at.partition, record.at.offset, order_id, digest(record.value), lines, user)
        self.created[order_id] = (*self.created.get(order_id, ()), created)

    def _take_outcome(self, record: Record) -> None:
        verdict = Verdict(record.at.topic)
        event = self._event(record, "InventoryReserved" if verdict is Verdict.RESERVED else "InventoryFailed")
        if event is None:
            return
        headers = texts(record.headers())
        order_id = sys.intern(event["order_id"])
        outcome = Outcome(
            verdict=verdict,
            partition=record.at.partition,
            offset=record.at.offset,
            order_id=order_id,
            event_id=sys.intern(event["event_id"]),
            header_id=sys.intern(headers.get("ce_id", "none")),
            digest=digest(record.value),
            source=self._coordinate(headers, "origin"),
            minute=event["placed_at"] // 60_000 * 60_000,
            units=sum(line["quantity"] for line in event["lines"]),
        )
        self.outcomes[order_id] = (*self.outcomes.get(order_id, ()), outcome)

    def _take_sent(self, record: Record) -> None:
        event = self._event(record, "NotificationSent")
        if event is None:
            return
        order_id = sys.intern(event["order_id"])
        sent = Sent(
            partition=record.at.partition,
            offset=record.at.offset,
            order_id=order_id,
            event_id=event["event_id"],
            kind=sys.intern(event["kind"]),
            channel=sys.intern(event["channel"]),
            source=self._coordinate(texts(record.headers()), "origin"),
        )
        self.sent[order_id] = (*self.sent.get(order_id, ()), sent)

    def _take_partial(self, record: Record) -> None:
        event = self._event(record, "VolumePartial")
        if event is not None:
            source = Spot(sys.intern(event["topic"].removeprefix(self._prefix)), event["partition"])
            counts = (event[name] for name in ("minute", "reserved", "failed", "units", "late", "until"))
            self.partials.append(Partial(record.at.offset, source, *counts))

    def _take_total(self, record: Record) -> None:
        event = self._event(record, "MinuteVolume")
        if event is not None:
            counts = (event[name] for name in ("minute", "orders", "reserved", "failed", "units", "late", "revision"))
            self.totals.append(Total(record.at.offset, *counts))

    def _take_dead_letter(self, record: Record) -> None:
        headers = texts(record.headers())
        self.dead_letters.append(
            DeadLetter(
                at=record.at,
                source=self._coordinate(headers, "dlq"),
                digest=None if _too_large(headers) else digest(record.key, record.value),
                missing=tuple(name for name in DEAD_LETTER_HEADERS if name not in headers),
            )
        )

    def _event(self, record: Record, expected: str) -> dict[str, Any] | None:
        try:
            return self._decoder.decode(record.value, expected)
        except UnreadableError as error:
            self.undecodable.append(Undecodable(record.at, str(error)))
            return None

    def _coordinate(self, headers: Mapping[str, str], prefix: str) -> Coordinate | None:
        return coordinate(headers, prefix, namespace=self._prefix)


def coordinate(headers: Mapping[str, str], prefix: str, *, namespace: str) -> Coordinate | None:
    """Return what the headers `<prefix>_topic`, `_partition` and `_offset` name, if they name a coordinate.

    `namespace` stands in front of the topic there, with its dot, and is left out.
    """
    try:
        topic = headers[f"{prefix}_topic"].removeprefix(namespace)
        return Coordinate(sys.intern(topic), int(headers[f"{prefix}_partition"]), int(headers[f"{prefix}_offset"]))
    except (KeyError, ValueError):
        return None


def digest(*parts: bytes | None) -> bytes:
    """Return 16 bytes that stand for these; of a single value as PostgreSQL's `substring(sha256(v) FOR 16)`."""
    whole = (parts[0] or b"") if len(parts) == 1 else repr(parts).encode()
    return hashlib.sha256(whole).digest()[:16]


def fingerprint(lines: Sequence[tuple[str, int]]) -> int:
    """Return a number that stands for these lines, in any order, within this process."""
    return hash(tuple(sorted(lines)))


def _too_large(headers: Mapping[str, str]) -> bool:
    """Return True if a dead letter says that it leaves out more bytes than its topic takes."""
    omitted = headers.get("dlq_omitted_bytes", "")
    return omitted.isdecimal() and int(omitted) > MESSAGE_BYTES_MAX


def texts(headers: Headers) -> dict[str, str]:
    """Return the headers that have a value, as texts."""
    return {name: value.decode(errors="replace") for name, value in headers or () if value is not None}
