"""How much of an HTTP/1.1 request has come. What it asks for is read elsewhere: by gunicorn's parser alone.

Whatever that parser refuses at once counts as whole, so that it can.
"""

import re
from dataclasses import dataclass

_END_OF_LINE = b"\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,18})[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_CHUNKED = re.compile(rb"^transfer-encoding[ \t]*:.*chunked", re.IGNORECASE | re.MULTILINE)
_EXPECTS = re.compile(rb"^expect[ \t]*:[ \t]*100-continue[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Frame:
    """What has come of a request. Sizes are in bytes."""

    head: int
    missing: int = 0
    """At least so many; 0 if the request is whole."""
    body: int = 0
    """As the head announces it; in chunks, as those announce it that have begun."""
    expects: bool = False
    """The client waits for "100 Continue" before it sends the body."""
    next_chunk: int = 0
    """Where in the body the first chunk begins that has not begun, or whose size has not come whole."""


NOTHING = Frame(head=0)


def frame(seen: bytes, before: Frame = NOTHING) -> Frame:
    """Return how much of a request there is in these bytes, its first.

    `before`: what was returned for the first of them, so that a body in many chunks is not read again from its start.
    """
    end = seen.find(_END_OF_HEAD)
    if end < 0:
        return Frame(head=len(seen), missing=1)
    start = end + len(_END_OF_HEAD)
    head, came = seen[: end + len(_END_OF_LINE)], len(seen) - start
    at = 0
    if _CHUNKED.search(head):
        missing, body, at = _chunks(seen[start:], before.next_chunk, before.body)
    else:
        length = _LENGTH.search(head)
        body = int(length[1]) if length else 0
        missing = max(body - came, 0)
    expects = missing > 0 and came == 0 and _EXPECTS.search(head) is not None
    return Frame(start, missing, body, expects=expects, next_chunk=at)


def _chunks(coded: bytes, at: int, body: int) -> tuple[int, int, int]:
    """Return how many bytes are missing at least, how many the chunks hold that have begun, and where the next begins.

    The chunks before `at` hold `body` bytes.
    """
    while at <= len(coded):
        end = coded.find(_END_OF_LINE, at)
        if end < 0:
            return 1, body, at
        try:
            size = int(coded[at:end].partition(b";")[0], 16)
        except ValueError:
            return 0, body, at
        if size <= 0:  # the last one; trailers may follow, up to an empty line
            return (0 if _END_OF_HEAD in coded[end:] else 1), body, at
        body += size
        at = end + len(_END_OF_LINE) + size + len(_END_OF_LINE)
    return at - len(coded), body, at
