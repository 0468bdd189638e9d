"""Answer files that stay the same while a process lives: compressed once, named by their content, validated by it.

Guards against clients that read a large file slowly: a thread is held until the last byte is gone. So at most a
quarter of the threads send what is larger than a socket takes at once. Who comes while all of these are busy gets a
503 immediately, and orders go on.
"""

import gzip
import hashlib
import threading
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

from flask import Response, request

from order_service.io.problems import Problem, ProblemType, respond

AT_ONCE_BYTES_MAX = 32 * 1024
"""What a socket takes at once, or nearly so."""
FOR_EVER = "public, max-age=31536000, immutable"
"""For an address that names the content."""
ASK_AGAIN = "no-cache"
"""For an address that stays: kept by the client, and asked about each time; mostly the answer is a 304 without body."""
_OK = 200


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent. `packed`: under gzip; `length`: without it, in bytes; `digest`: of the content."""

    media_type: str
    packed: bytes
    length: int
    digest: str

    @classmethod
    def of(cls, content: bytes | str, media_type: str) -> Self:
        """Return the file with this content."""
        data = content.encode() if isinstance(content, str) else content
        return cls(
            media_type, gzip.compress(data, compresslevel=6, mtime=0), len(data), hashlib.sha256(data).hexdigest()[:16]
        )

    def named(self, name: str) -> str:
        """Return a name for this content alone: `icon.svg` -> `icon.0123456789abcdef.svg`."""
        path = PurePath(name)
        return f"{path.stem}.{self.digest}{path.suffix}"


class StaticFiles:
    """The way out for all static files of a process. `threads`: how many the server has."""

    def __init__(self, *, threads: int) -> None:
        self._senders = threading.BoundedSemaphore(max(threads // 4, 1))

    def answer(self, file: StaticFile, *, caching: str) -> Response:
        """Return the file, or 304 if the client has it already, or 503 if too many threads are sending."""
        takes_packed = request.accept_encodings.quality("gzip") > 0
        response = Response(mimetype=file.media_type)
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = caching
        response.set_etag(f"{file.digest}-gzip" if takes_packed else file.digest)
        response.make_conditional(request)
        if response.status_code != _OK:
            return response
        length = len(file.packed) if takes_packed else file.length
        if length > AT_ONCE_BYTES_MAX and request.method != "HEAD":
            if not self._senders.acquire(blocking=False):
                return respond(
                    Problem(ProblemType.UNAVAILABLE, "Too many are reading this now; try again in a moment.")
                )
            response.call_on_close(self._senders.release)
        if takes_packed:
            response.headers["Content-Encoding"] = "gzip"
        # Hardly anyone asks for the plain form: unpacking it takes milliseconds, keeping it would cost every process.
        response.set_data(file.packed if takes_packed else gzip.decompress(file.packed))
        return response
