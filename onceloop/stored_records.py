"""Records as bytes, so that what was decided once is published to the byte ever after. Pure; reversible; never pickle.

Layout, big-endian: a version byte, then record after record:

    topic length u16 | key length i32 | value length i32 | flags u8 | headers u16 | topic | key | value
    and per header: name length u16 | value length i32 | name | value

A length of -1 stands for None. Bit 0 of the flags: a dead letter.
"""

from collections.abc import Iterable
from struct import Struct, error

from onceloop.records import Headers, OutputRecord

VERSION = b"\x01"
_RECORD = Struct(">HiiBH")
_HEADER = Struct(">Hi")
_DEAD_LETTER = 1


def pack(records: Iterable[OutputRecord]) -> bytes:
    """Return the records as bytes. Raises TypeError for a part that is neither bytes nor None, ValueError if too long.

    A topic and a header's name are text.
    """
    parts = [VERSION]
    try:
        for topic, key, value, headers, is_dead_letter in records:
            name = topic.encode()
            sizes = len(name), _size(key), _size(value), _DEAD_LETTER if is_dead_letter else 0, len(headers)
            parts += [_RECORD.pack(*sizes), name, key or b"", value or b""]
            for header, content in headers:
                label = header.encode()
                parts += [_HEADER.pack(len(label), _size(content)), label, content or b""]
    except error as unfit:
        raise ValueError(f"a record that cannot be stored: {unfit}") from unfit
    return b"".join(parts)


def unpack(stored: bytes) -> tuple[OutputRecord, ...]:
    """Return the records that `pack` made these bytes of. Raises ValueError for bytes of another kind."""
    if stored[:1] != VERSION:
        raise ValueError(f"stored records of version {stored[:1]!r}, known is {VERSION!r}")
    found = []
    at = 1
    while at < len(stored):
        name, key, value, flags, headers = _RECORD.unpack_from(stored, at)
        at += _RECORD.size
        topic, at = stored[at : at + name].decode(), at + name
        key_bytes, at = _part(stored, at, key)
        value_bytes, at = _part(stored, at, value)
        read, at = _headers(stored, at, headers) if headers else ((), at)
        found.append(OutputRecord(topic, key_bytes, value_bytes, read, bool(flags & _DEAD_LETTER)))
    return tuple(found)


def _headers(stored: bytes, at: int, count: int) -> tuple[Headers, int]:
    found = []
    for _ in range(count):
        name, value = _HEADER.unpack_from(stored, at)
        at += _HEADER.size
        label, at = stored[at : at + name].decode(), at + name
        content, at = _part(stored, at, value)
        found.append((label, content))
    return tuple(found), at


def _part(stored: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    return (None, at) if size < 0 else (stored[at : at + size], at + size)


def _size(part: bytes | None) -> int:
    if part is None:
        return -1
    if not isinstance(part, bytes):
        raise TypeError(f"{type(part).__name__} where bytes or None belong: encode it")
    return len(part)
