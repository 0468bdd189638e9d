"""Bytes <-> event: the common five-byte frame (magic 0, schema id, big endian), then Avro. Pure.

The frame is the one that registries, sinks and other clients read. Avro's logical types are taken as the plain numbers
and texts that they annotate: times stay milliseconds, ids stay text, and nothing is converted twice on the hot path.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from io import BytesIO
from typing import Any, TypeVar

import fastavro
from fastavro.schema import to_parsing_canonical_form

from common.events import mapping, scanning
from common.events.inventory import InventoryFailed, InventoryReserved
from common.events.notifications import NotificationSent
from common.events.orders import OrderCreated
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
_CLASSES: dict[str, type[Any]] = {kind.__name__: kind for kind in EVENT_TYPES}
_FRAME = struct.Struct(">bI")
_MAGIC = 0


def schema_text(event: str) -> str:
    """Return the newest schema of an event as JSON text, as it is registered."""
    return newest(event).text


class Codec:
    """Encode with the ids this process knows; decode with whatever schema the writer named.

    `ids`: event name -> id of its newest schema. `writer_schema`: id -> schema as JSON text; it raises Undecodable for
    an id that is not registered and Busy while the registry does not answer. `build_scan`: how whole batches of orders
    are read.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        writer_schema: Callable[[int], str],
        *,
        build_scan: scanning.BuildScan = scanning.BEST,
    ) -> None:
        self._frames = {event: _FRAME.pack(_MAGIC, schema_id) for event, schema_id in ids.items()}
        self._names = {schema_id: event for event, schema_id in ids.items()}
        self._writer_schema = writer_schema
        self._foreign: dict[int, Any] = {}
        self._taken_over = self._frames.get("OrderCreated") if _reservation_holds_the_order() else None
        fits = "OrderCreated" in ids and scanning.fits(_own_schema("OrderCreated"))
        self._scan = (build_scan if fits else scanning.leave_all)(self._frames.get("OrderCreated", b""))

    def encode(self, event: Event) -> bytes:
        """Return the framed bytes of an event."""
        name = type(event).__name__
        out = BytesIO()
        out.write(self._frames[name])
        fastavro.schemaless_writer(out, _own_schema(name), _to_avro(name)(event))
        return out.getvalue()

    def encode_reserved(self, order: bytes, *, event_id: str, decided_at_ms: int) -> bytes:
        """Return the framed bytes of the InventoryReserved that answers these framed bytes of an OrderCreated.

        Its fields are an id, those of the order, a time: what was written with our schema is taken over as it stands,
        at a tenth of the cost. Where versions part the two, all of it is decoded and encoded again. `order` must have
        been decoded before, so that whatever it holds is sound.
        """
        return self.encode_all_reserved([order], [event_id], decided_at_ms)[0]

    def encode_all_reserved(self, orders: Iterable[bytes], event_ids: Iterable[str], decided_at_ms: int) -> list[bytes]:
        """Return `encode_reserved` of each order of a batch."""
        frame, time, size = self._frames["InventoryReserved"], _avro_long(decided_at_ms), _FRAME.size
        return [
            b"".join((frame, _avro_long(len(named)), named, order[size:], time))
            if order[:size] == self._taken_over
            else self._translated(order, named.decode(), decided_at_ms)
            for order, named in zip(orders, map(str.encode, event_ids), strict=True)
        ]

    def decode(self, expected: type[E], value: bytes | None) -> E:
        """Return the event that the bytes hold.

        Raises Undecodable if they hold none, or one that cannot be (its `violation`); Busy if the
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
        event: E = _from_avro(expected.__name__)(avro)
        if violation := event.violation():
            raise Undecodable("content", violation)
        return event

    def scan_orders(self, values: list[bytes | None]) -> list[OrderCreated | None]:
        """Return per value the order that it holds, sound as `decode` has it, or None where `decode` is to be asked.

        How many are found is a matter of speed alone: with the extension nearly all, without it none.
        """
        return self._scan(values)

    def _translated(self, order: bytes, event_id: str, decided_at_ms: int) -> bytes:
        placed = self.decode(OrderCreated, order)
        return self.encode(
            InventoryReserved(
                event_id, placed.order_id, placed.user_id, placed.lines, placed.placed_at_ms, decided_at_ms
            )
        )

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
def _from_avro(name: str) -> Callable[[Avro], Any]:
    return mapping.from_avro(_CLASSES[name], _own_schema(name))


@cache
def _to_avro(name: str) -> Callable[[Any], Avro]:
    return mapping.to_avro(_CLASSES[name], _own_schema(name))


@cache
def _reservation_holds_the_order() -> bool:
    """Return whether the newest InventoryReserved is an id, the newest OrderCreated, a time: no more, no less."""
    order, reserved = (_own_schema(name)["fields"] for name in ("OrderCreated", "InventoryReserved"))
    around = ({"name": "event_id", "type": "string"}, {"name": "decided_at", "type": "long"})
    return _form([around[0], *order, around[1]]) == _form(reserved)


def _form(fields: list[Avro]) -> str:
    """Return all that decides about the bytes of these fields."""
    return str(to_parsing_canonical_form({"type": "record", "name": "Fields", "fields": fields}))


@lru_cache(maxsize=64)  # all events of a batch share the time, all ids the length
def _avro_long(number: int) -> bytes:
    """Return Avro's form of a number that is not negative: zigzag, then seven bits a byte, the lowest first."""
    rest, low_first = number << 1, bytearray()
    while rest >> 7:
        low_first.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*low_first, rest))
