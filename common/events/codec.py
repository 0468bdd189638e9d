"""Bytes <-> event: the common five-byte frame (magic 0, schema id, big endian), then Avro. Pure.

The frame is the one that registries, sinks and other clients read. Avro's logical types are taken as the plain numbers
and texts that they annotate: times stay milliseconds, ids stay text, and nothing is converted twice on the hot path.
"""

import struct
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from io import BytesIO
from typing import Any, TypeVar

import fastavro
from fastavro.schema import to_parsing_canonical_form

from common.events import orders
from common.events.inventory import InventoryFailed, InventoryReserved, Reason
from common.events.notifications import Kind, NotificationSent
from common.events.orders import OrderCreated, OrderLine
from common.events.schema_versions import newest, parse
from common.events.volume import MinuteVolume, VolumePartial
from onceloop.errors import Undecodable

Event = OrderCreated | InventoryReserved | InventoryFailed | NotificationSent | VolumePartial | MinuteVolume
E = TypeVar("E", bound=Event)
Avro = dict[str, Any]

EVENT_TYPES: tuple[type[Event], ...] = (
    OrderCreated,
    InventoryReserved,
    InventoryFailed,
    NotificationSent,
    VolumePartial,
    MinuteVolume,
)
_FRAME = struct.Struct(">bI")
_MAGIC = 0


def schema_text(event: str) -> str:
    """Return the newest schema of an event as JSON text, as it is registered."""
    return newest(event).text


class Codec:
    """Encode with the ids this process knows; decode with whatever schema the writer named.

    `ids`: event name -> id of its newest schema. `writer_schema`: id -> schema as JSON text; it raises Undecodable for
    an id nobody registered and Busy while the registry does not answer.
    """

    def __init__(self, ids: Mapping[str, int], writer_schema: Callable[[int], str]) -> None:
        self._frames = {event: _FRAME.pack(_MAGIC, schema_id) for event, schema_id in ids.items()}
        self._names = {schema_id: event for event, schema_id in ids.items()}
        self._writer_schema = writer_schema
        self._foreign: dict[int, Any] = {}
        self._taken_over = self._frames.get("OrderCreated") if _reservation_holds_the_order() else None

    def encode(self, event: Event) -> bytes:
        """Return the framed bytes of an event."""
        name = type(event).__name__
        out = BytesIO()
        out.write(self._frames[name])
        fastavro.schemaless_writer(out, _own_schema(name), _TO_AVRO[type(event)](event))
        return out.getvalue()

    def encode_reserved(self, order: bytes, *, event_id: str, decided_at_ms: int) -> bytes:
        """Return the framed bytes of the InventoryReserved that answers these framed bytes of an OrderCreated.

        Its fields are an id, those of the order, a time: what was written with our schema is taken over as it stands,
        at a tenth of the cost. Where versions part the two, all of it is decoded and encoded anew. `order` must have
        been decoded before, so that whatever it holds is sound.
        """
        if order[: _FRAME.size] == self._taken_over:
            frame = self._frames["InventoryReserved"]
            return b"".join((frame, _avro_text(event_id), order[_FRAME.size :], _avro_long(decided_at_ms)))
        placed = self.decode(OrderCreated, order)
        return self.encode(
            InventoryReserved(
                event_id, placed.order_id, placed.user_id, placed.lines, placed.placed_at_ms, decided_at_ms
            )
        )

    def decode(self, expected: type[E], value: bytes | None) -> E:
        """Return the event that the bytes hold.

        Raises Undecodable if they hold none, or one that cannot be (no lines, a quantity of zero); Busy if the
        writer's schema cannot be fetched now.
        """
        if value is None or len(value) < _FRAME.size:
            raise Undecodable("frame", "shorter than the five-byte frame")
        magic, schema_id = _FRAME.unpack_from(value)
        if magic != _MAGIC:
            raise Undecodable("magic", f"magic byte {magic & 0xFF:#04x} instead of 0x00")
        body = BytesIO(value)
        body.seek(_FRAME.size)
        avro = self._read(expected.__name__, schema_id, body)
        if body.tell() != len(value):
            raise Undecodable("avro", f"{len(value) - body.tell()} bytes behind the record")
        event: E = _FROM_AVRO[expected](avro)
        if isinstance(event, OrderCreated) and (complaint := orders.complaint(event)):
            raise Undecodable("content", complaint)
        return event

    def _read(self, name: str, schema_id: int, body: BytesIO) -> Avro:
        own = self._names.get(schema_id) == name
        writer = _own_schema(name) if own else self._writer(schema_id)
        try:
            # Without a reader schema fastavro skips resolution: the writer's is ours.
            record = fastavro.schemaless_reader(body, writer, None if own else _own_schema(name))
        except Exception as error:
            raise Undecodable("avro", f"{type(error).__name__}: {error}") from error
        if not isinstance(record, dict):
            raise Undecodable("avro", "not a record")
        return record

    def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._foreign:
            text = self._writer_schema(schema_id)
            try:
                self._foreign[schema_id] = parse(text)
            except Exception as error:  # JSON Schema, Protobuf, references: fastavro raises whatever it meets
                raise Undecodable("schema", f"schema id {schema_id} is no Avro schema that stands alone") from error
        return self._foreign[schema_id]


@cache
def _own_schema(name: str) -> Any:
    return parse(schema_text(name))


@cache
def _reservation_holds_the_order() -> bool:
    """Tell whether the newest InventoryReserved is an id, the newest OrderCreated, a time: no more, no less."""
    order, reserved = (_own_schema(name)["fields"] for name in ("OrderCreated", "InventoryReserved"))
    around = ({"name": "event_id", "type": "string"}, {"name": "decided_at", "type": "long"})
    return _form([around[0], *order, around[1]]) == _form(reserved)


def _form(fields: list[Avro]) -> str:
    """Return all that decides about the bytes of these fields."""
    return str(to_parsing_canonical_form({"type": "record", "name": "Fields", "fields": fields}))


def _avro_text(text: str) -> bytes:
    encoded = text.encode()
    return _avro_long(len(encoded)) + encoded


@lru_cache(maxsize=64)  # all events of a batch share the time, all ids the length
def _avro_long(number: int) -> bytes:
    """Return Avro's form of a number that is not negative: zigzag, then seven bits a byte, the lowest first."""
    rest, low_first = number << 1, bytearray()
    while rest >> 7:
        low_first.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*low_first, rest))


def _lines(avro: Avro) -> tuple[OrderLine, ...]:
    return tuple([OrderLine(line["sku"], line["quantity"]) for line in avro["lines"]])


def _lines_to_avro(lines: tuple[OrderLine, ...]) -> list[Avro]:
    return [{"sku": line.sku, "quantity": line.quantity} for line in lines]


def _order_created(avro: Avro) -> OrderCreated:
    return OrderCreated(avro["order_id"], avro["user_id"], _lines(avro), avro["placed_at"])


def _order_created_to_avro(event: OrderCreated) -> Avro:
    return {
        "order_id": event.order_id,
        "user_id": event.user_id,
        "lines": _lines_to_avro(event.lines),
        "placed_at": event.placed_at_ms,
    }


def _inventory_reserved(avro: Avro) -> InventoryReserved:
    return InventoryReserved(
        avro["event_id"], avro["order_id"], avro["user_id"], _lines(avro), avro["placed_at"], avro["decided_at"]
    )


def _inventory_reserved_to_avro(event: InventoryReserved) -> Avro:
    return {
        "event_id": event.event_id,
        "order_id": event.order_id,
        "user_id": event.user_id,
        "lines": _lines_to_avro(event.lines),
        "placed_at": event.placed_at_ms,
        "decided_at": event.decided_at_ms,
    }


def _inventory_failed(avro: Avro) -> InventoryFailed:
    return InventoryFailed(
        event_id=avro["event_id"],
        order_id=avro["order_id"],
        user_id=avro["user_id"],
        lines=_lines(avro),
        reason=Reason(avro["reason"]),
        sku=avro["sku"],
        requested=avro["requested"],
        available=avro["available"],
        placed_at_ms=avro["placed_at"],
        decided_at_ms=avro["decided_at"],
    )


def _inventory_failed_to_avro(event: InventoryFailed) -> Avro:
    return {
        "event_id": event.event_id,
        "order_id": event.order_id,
        "user_id": event.user_id,
        "lines": _lines_to_avro(event.lines),
        "reason": event.reason.value,
        "sku": event.sku,
        "requested": event.requested,
        "available": event.available,
        "placed_at": event.placed_at_ms,
        "decided_at": event.decided_at_ms,
    }


def _notification_sent(avro: Avro) -> NotificationSent:
    return NotificationSent(
        event_id=avro["event_id"],
        order_id=avro["order_id"],
        user_id=avro["user_id"],
        kind=Kind(avro["kind"]),
        channel=avro["channel"],
        sent_at_ms=avro["sent_at"],
    )


def _notification_sent_to_avro(event: NotificationSent) -> Avro:
    return {
        "event_id": event.event_id,
        "order_id": event.order_id,
        "user_id": event.user_id,
        "kind": event.kind.value,
        "channel": event.channel,
        "sent_at": event.sent_at_ms,
    }


def _volume_partial(avro: Avro) -> VolumePartial:
    return VolumePartial(minute_ms=avro.pop("minute"), **avro)


def _volume_partial_to_avro(event: VolumePartial) -> Avro:
    return {
        "topic": event.topic,
        "partition": event.partition,
        "minute": event.minute_ms,
        "reserved": event.reserved,
        "failed": event.failed,
        "units": event.units,
        "late": event.late,
        "until": event.until,
    }


def _minute_volume(avro: Avro) -> MinuteVolume:
    return MinuteVolume(minute_ms=avro.pop("minute"), **avro)


def _minute_volume_to_avro(event: MinuteVolume) -> Avro:
    return {
        "minute": event.minute_ms,
        "orders": event.orders,
        "reserved": event.reserved,
        "failed": event.failed,
        "units": event.units,
        "late": event.late,
        "revision": event.revision,
    }


_FROM_AVRO: dict[type[Any], Callable[[Avro], Any]] = {
    OrderCreated: _order_created,
    InventoryReserved: _inventory_reserved,
    InventoryFailed: _inventory_failed,
    NotificationSent: _notification_sent,
    VolumePartial: _volume_partial,
    MinuteVolume: _minute_volume,
}
_TO_AVRO: dict[type[Any], Callable[[Any], Avro]] = {
    OrderCreated: _order_created_to_avro,
    InventoryReserved: _inventory_reserved_to_avro,
    InventoryFailed: _inventory_failed_to_avro,
    NotificationSent: _notification_sent_to_avro,
    VolumePartial: _volume_partial_to_avro,
    MinuteVolume: _minute_volume_to_avro,
}
