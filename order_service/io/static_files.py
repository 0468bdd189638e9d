"""Answer files that stay the same while a process lives: compressed once, named by their content, validated by it."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

from flask import Response, request

FOR_EVER = "public, max-age=31536000, immutable"
"""For an address that names the content."""
ASK_AGAIN = "no-cache"
"""For an address that stays: kept by the client, and asked about each time; mostly the answer is a 304 without body."""
KEPT_BYTES_MAX = 512 * 1024
"""Plain forms up to this size are kept; hardly anyone asks for those of the scripts, which are megabytes."""
_OK = 200


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it is sent. `packed`: under gzip; `digest`: of the content."""

    media_type: str
    packed: bytes
    digest: str
    _kept: bytes | None

    @classmethod
    def of(cls, content: bytes | str, media_type: str) -> Self:
        """Return the file with this content."""
        data = content.encode() if isinstance(content, str) else content
        packed = gzip.compress(data, compresslevel=6, mtime=0)
        kept = data if len(data) <= KEPT_BYTES_MAX else None
        return cls(media_type, packed, hashlib.sha256(data).hexdigest()[:16], kept)

    def plain(self) -> bytes:
        """Return the content; unpacking a large one takes milliseconds."""
        return gzip.decompress(self.packed) if self._kept is None else self._kept

    def named(self, name: str) -> str:
        """Return a name for this content alone: `icon.svg` -> `icon.0123456789abcdef.svg`."""
        path = PurePath(name)
        return f"{path.stem}.{self.digest}{path.suffix}"


def answer(file: StaticFile, *, caching: str) -> Response:
    """Return the file, or 304 if the client has it already."""
    takes_packed = request.accept_encodings.quality("gzip") > 0
    response = Response(mimetype=file.media_type)
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = caching
    response.set_etag(f"{file.digest}-gzip" if takes_packed else file.digest)
    response.make_conditional(request)
    if response.status_code != _OK:
        return response
    if takes_packed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_data(file.packed if takes_packed else file.plain())
    return response
