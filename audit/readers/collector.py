"""Records -> what the books keep of them. No client, no network: bytes in, values out.

Values are dropped as soon as they are digested, ids are shared texts, so that a million orders fit.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from audit.books import (
    Created,
    DeadLetter,
    Lacking,
    Misfit,
    Outcome,
    Partial,
    Poison,
    Sent,
    Total,
    Undecodable,
    Verdict,
)
from audit.readers import misfits
from audit.readers.avro import UnreadableError, impossible
from audit.terms import Coordinate, Lines, Spot
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

ORDER_FIELDS = {"order_id", "user_id", "lines", "placed_at"}
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
        self.misfits: list[Misfit] = []
        self.fresh: list[Created | Outcome | Sent] = []
        """What was taken of orders, in the order of taking."""
        self.first_answers: dict[tuple[Spot, Spot], int] = {}

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
            headers = digest_of_headers(record.headers())
            self.poison.append(Poison(record.at, digest(record.key, record.value), why, headers))
            return
        order_id = sys.intern(order["order_id"])
        lines = [(line["sku"], line["quantity"]) for line in order["lines"]]
        created = Created(
            partition=record.at.partition,
            offset=record.at.offset,
            order_id=order_id,
            digest=digest(record.value),
            lines=fingerprint(lines),
            user=sys.intern(order["user_id"]),
            placed_at=order["placed_at"],
            # What a newer version asks besides belongs to its request, and how is not known here.
            request=request_digest(order["user_id"], lines) if order.keys() == ORDER_FIELDS else b"",
            asked=shared(lines),
        )
        self.created[order_id] = (*self.created.get(order_id, ()), created)
        self.fresh.append(created)
        self._note(record, order_id, misfits.of_order(record.key, order, texts(record.headers())))

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
            user=sys.intern(event["user_id"]),
            lines=fingerprint([(line["sku"], line["quantity"]) for line in event["lines"]]),
            placed_at=event["placed_at"],
            decided_at=event["decided_at"],
            lacking=None if verdict is Verdict.RESERVED else lacking(*(event[name] for name in Lacking._fields)),
        )
        self.outcomes[order_id] = (*self.outcomes.get(order_id, ()), outcome)
        self.fresh.append(outcome)
        if outcome.source is not None:
            answers = outcome.at.spot, outcome.source.spot
            self.first_answers[answers] = min(outcome.source.offset, self.first_answers.get(answers, sys.maxsize))
        self._note(record, order_id, misfits.of_outcome(record.key, event, headers, verdict))

    def _take_sent(self, record: Record) -> None:
        event = self._event(record, "NotificationSent")
        if event is None:
            return
        headers = texts(record.headers())
        order_id = sys.intern(event["order_id"])
        sent = Sent(
            partition=record.at.partition,
            offset=record.at.offset,
            order_id=order_id,
            event_id=event["event_id"],
            kind=sys.intern(event["kind"]),
            channel=sys.intern(event["channel"]),
            source=self._coordinate(headers, "origin"),
            user=sys.intern(event["user_id"]),
            sent_at=event["sent_at"],
        )
        self.sent[order_id] = (*self.sent.get(order_id, ()), sent)
        self.fresh.append(sent)
        self._note(record, order_id, misfits.of_sent(record.key, event, headers))

    def _take_partial(self, record: Record) -> None:
        event = self._event(record, "VolumePartial")
        if event is not None:
            source = Spot(sys.intern(event["topic"].removeprefix(self._prefix)), event["partition"])
            counts = (event[name] for name in ("minute", "reserved", "failed", "units", "late", "until"))
            self.partials.append(Partial(record.at.offset, source, *counts))
            self._note(record, "", misfits.of_partial(record.key, event, texts(record.headers())))

    def _take_total(self, record: Record) -> None:
        event = self._event(record, "MinuteVolume")
        if event is not None:
            counts = (event[name] for name in ("minute", "orders", "reserved", "failed", "units", "late", "revision"))
            self.totals.append(Total(record.at.offset, *counts))
            self._note(record, "", misfits.of_total(record.key, event, texts(record.headers())))

    def _take_dead_letter(self, record: Record) -> None:
        headers = texts(record.headers())
        self.dead_letters.append(
            DeadLetter(
                at=record.at,
                source=self._coordinate(headers, "dlq"),
                digest=None if _too_large(headers) else digest(record.key, record.value),
                missing=tuple(name for name in DEAD_LETTER_HEADERS if name not in headers),
                value=digest(record.value),
                headers=digest_of_headers(
                    (name, value) for name, value in record.headers() or () if name not in DEAD_LETTER_HEADERS
                ),
            )
        )
        self._note(record, "", misfits.of_dead_letter(headers))

    def _note(self, record: Record, order_id: str, found: Iterable[str]) -> None:
        self.misfits += [Misfit(record.at, order_id, what) for what in found]

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


def digest_of_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> bytes:
    """Return what stands for these headers, in their order."""
    return digest(repr([*(headers or ())]).encode())


def request_digest(user: str, lines: Sequence[tuple[str, int]]) -> bytes:
    """Return what stands for a request in the row of its Idempotency-Key, as the API documents it; 16 bytes of it."""
    canonical = json.dumps({"lines": lines, "user_id": user}, ensure_ascii=False, separators=(",", ":"))
    return digest(canonical.encode())


@lru_cache(maxsize=65_536)  # most orders want what others want
def _fingerprint(lines: tuple[tuple[str, int], ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(lines).encode()).digest()[:7])


def fingerprint(lines: Sequence[tuple[str, int]]) -> int:
    """Return a number of 56 bits that stands for these lines, in any order, in every process."""
    return _fingerprint(tuple(sorted(lines)))


@lru_cache(maxsize=65_536)
def _shared(sku: str, quantity: int) -> tuple[str, int]:
    return sku, quantity


def shared(lines: Sequence[tuple[str, int]]) -> Lines:
    """Return these lines, each as one shared value: a shop has few SKUs, and orders want few of each."""
    return tuple([_shared(sku, quantity) for sku, quantity in lines])


@lru_cache(maxsize=65_536)
def lacking(reason: str | None, sku: str | None, requested: int | None, available: int | None) -> Lacking:
    """Return these as one shared value: few orders fail in a way of their own."""
    return Lacking(reason, sku, requested, available)


def _too_large(headers: Mapping[str, str]) -> bool:
    """Return True if a dead letter says that it leaves out more bytes than its topic takes."""
    omitted = headers.get("dlq_omitted_bytes", "")
    return omitted.isdecimal() and int(omitted) > MESSAGE_BYTES_MAX


def texts(headers: Headers) -> dict[str, str]:
    """Return the headers that have a value, as texts."""
    return {name: value.decode(errors="replace") for name, value in headers or () if value is not None}
