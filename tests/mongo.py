"""Read a collection of a MongoDB with nothing but a socket: one command, the few BSON types that our documents have.

A driver would be a dependency for one test that runs only where a server is named.
"""

import itertools
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

Document = dict[str, Any]

_OP_MSG = 2013
_SECONDS = 10.0
_TEXT, _DOCUMENT, _ARRAY, _NULL = 0x02, 0x03, 0x04, 0x0A
_PLAIN = {0x01: "<d", 0x08: "<?", 0x09: "<q", 0x10: "<i", 0x11: "<q", 0x12: "<q"}
"""Numbers, truths, and times in milliseconds since the epoch."""
_requests = itertools.count(1)


def find(uri: str, database: str, collection: str) -> list[Document]:
    """Return all documents of a small collection: what fits one answer."""
    answer = command(uri, {"find": collection, "batchSize": 10_000, "$db": database})
    assert answer["ok"] == 1, answer
    return list(answer["cursor"]["firstBatch"].values())


def command(uri: str, document: Document) -> Document:
    """Send a command of texts and whole numbers; return the answer."""
    at = urlsplit(uri)
    body = struct.pack("<IB", 0, 0) + _encode(document)
    with socket.create_connection((at.hostname or "", at.port or 27017), timeout=_SECONDS) as connection:
        connection.sendall(struct.pack("<iiii", 16 + len(body), next(_requests), 0, _OP_MSG) + body)
        stream = connection.makefile("rb")
        (size,) = struct.unpack("<i", stream.read(4))
        answer = stream.read(size - 4)
    return _decode(answer[12 + 5 :])[0]


def _encode(document: Document) -> bytes:
    fields = b"".join(
        b"\x02" + name.encode() + b"\0" + struct.pack("<i", len(value.encode()) + 1) + value.encode() + b"\0"
        if isinstance(value, str)
        else b"\x10" + name.encode() + b"\0" + struct.pack("<i", value)
        for name, value in document.items()
    )
    return struct.pack("<i", len(fields) + 5) + fields + b"\0"


def _decode(data: bytes) -> tuple[Document, int]:
    """Return a document and its length in bytes; an array is a document whose names are numbers."""
    (size,) = struct.unpack_from("<i", data)
    found: Document = {}
    at = 4
    while data[at]:
        end = data.index(b"\0", at + 1)
        name, kind = data[at + 1 : end].decode(), data[at]
        found[name], length = _value(kind, data[end + 1 :])
        at = end + 1 + length
    return found, size


def _value(kind: int, data: bytes) -> tuple[Any, int]:
    """Return a value and its length in bytes."""
    if kind in _PLAIN:
        return struct.unpack_from(_PLAIN[kind], data)[0], struct.calcsize(_PLAIN[kind])
    if kind in {_DOCUMENT, _ARRAY}:
        return _decode(data)
    if kind == _TEXT:
        (length,) = struct.unpack_from("<i", data)
        return data[4 : 3 + length].decode(), 4 + length
    assert kind == _NULL, f"BSON type {kind:#x} is none of ours"
    return None, 0
