"""Connections whose next request has not come yet: they cost a descriptor, and no thread.

The bytes stay in the kernel, where gunicorn's parser finds them as ever. Here they are only looked at (MSG_PEEK), and a
connection wakes the poller once as many have come as are missing (SO_RCVLOWAT). A thread gets it with a whole request.

Slow clients are cut; where there are too many, the oldest connection of the address that has the most.
"""

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from common.log import get_logger
from order_service.core.framing import NOTHING, Frame, frame
from order_service.io.problems import ProblemType
from order_service.io.reading import BODY_BYTES_MAX
from order_service.io.sockets import has_closed, peek, wake_at

SILENT_SECONDS_MAX = 10.0
"""From connecting to the first byte."""
REQUEST_SECONDS_MAX = 5.0
"""From a request's first byte to its last, for one of a few bytes."""
BYTES_PER_SECOND_MIN = 4096
"""What a larger one may take longer, by its bytes that have come."""
LEAVING_SECONDS_MAX = 1.0
"""For a client to take the answer and close; what it still sends is thrown away."""
EARLY_WAKES_MAX = 100
"""A client that fills the kernel's buffer with packets of a byte or so would wake the poller for nothing, for ever."""
CONNECTIONS_MAX = 400
HEAD_BYTES_MAX = 64 * 1024
CODED_BYTES_MAX = HEAD_BYTES_MAX + 4 * BODY_BYTES_MAX
"""Of a whole request. Chunks come with their sizes: the largest body in pieces of two bytes."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_DRAINED_BYTES = 64 * 1024
_PEEK_BYTES = CODED_BYTES_MAX + 1

log = get_logger()


class Connection(Protocol):
    """One of gunicorn's."""

    sock: socket.socket
    client: tuple[str, int]


@dataclass(slots=True)
class _Stay:
    """How long a connection may stay. `begun`: when the first byte of the request came; None before."""

    address: str
    until: float
    begun: float | None = None
    continued: bool = False
    leaving: bool = False
    came: Frame = NOTHING
    wakes_at: int = 0
    """How many bytes the poller was to wait for."""
    early: int = 0
    """How often in a row it did not wait for them: the kernel holds as much as it can."""


class Arrivals:
    """All of one process; for its main thread alone. None of its methods waits."""

    def __init__(
        self,
        poller: selectors.BaseSelector,
        *,
        pass_on: Callable[[Connection], None],
        drop: Callable[[Connection], None],
        answer: Callable[[ProblemType], bytes],
        read_ahead: Callable[[Connection], bytes],
    ) -> None:
        """`pass_on` gives a connection to a thread, `drop` closes it for good; `answer` returns a whole HTTP answer.

        `read_ahead` returns what gunicorn has read of the next request already.
        """
        self._poller = poller
        self._pass_on = pass_on
        self._drop = drop
        self._answer = answer
        self._read_ahead = read_ahead
        self._stays: dict[Connection, _Stay] = {}

    def admit(self, conn: Connection) -> None:
        """Take a connection on which a request may come, or has come."""
        if self._enter(conn, seconds=SILENT_SECONDS_MAX):
            self._look(conn)

    def refuse(self, conn: Connection, kind: ProblemType) -> None:
        """Answer with a problem, then see the connection off."""
        if conn in self._stays or self._enter(conn, seconds=LEAVING_SECONDS_MAX):
            try:
                conn.sock.send(self._answer(kind))  # what a new connection's buffer does not take is not worth a wait
            except OSError:
                self._end(conn)
            else:
                self._see_off(conn)

    def see_off(self, conn: Connection) -> None:
        """Close a connection that has its answer. What the client still sends is thrown away, so that it can read."""
        if self._enter(conn, seconds=LEAVING_SECONDS_MAX):
            self._see_off(conn)

    def make_room(self) -> bool:
        """Close the oldest connection of the address that has the most; return False if there is none."""
        counts = Counter(stay.address for stay in self._stays.values())
        if not counts:
            return False
        [(address, _)] = counts.most_common(1)
        self._end(next(conn for conn, stay in self._stays.items() if stay.address == address))
        return True

    def end_overdue(self, *, stopping: bool) -> None:
        """Cut those that have stayed too long. `stopping`: those that have sent nothing have, too."""
        now = time.monotonic()
        for conn, stay in tuple(self._stays.items()):
            silent = stay.begun is None and not stay.leaving
            if stay.until < now and stay.begun is not None and not stay.leaving:
                self.refuse(conn, ProblemType.TOO_SLOW)
            elif stay.until < now or (stopping and silent):
                self._end(conn)

    def _enter(self, conn: Connection, *, seconds: float) -> bool:
        if len(self._stays) >= CONNECTIONS_MAX:
            self.make_room()
        try:
            conn.sock.setblocking(False)
            self._poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_readable, conn))
        except (OSError, ValueError):  # closed already
            self._drop(conn)
            return False
        self._stays[conn] = _Stay(str(conn.client[0]), until=time.monotonic() + seconds)
        return True

    def _on_readable(self, conn: Connection, _sock: object) -> None:
        if conn not in self._stays:  # ended by another event of the same round
            return
        if self._stays[conn].leaving:
            self._throw_away(conn)
        else:
            self._look(conn)

    def _look(self, conn: Connection) -> None:
        try:
            ahead = self._read_ahead(conn)
            new = peek(conn.sock, _PEEK_BYTES)
            self._judge(conn, self._stays[conn], ahead, new)
        except OSError:
            self._end(conn)

    def _judge(self, conn: Connection, stay: _Stay, ahead: bytes, new: bytes | None) -> None:
        came = frame(ahead + (new or b""), stay.came)
        if new == b"" and came.missing:
            self._end(conn)  # the client has gone in the middle of its request, or before it
        elif not ahead and new is None:
            return  # nothing yet
        elif came.missing == 0:
            self._leave(conn)
            self._pass_on(conn)
        elif came.head > HEAD_BYTES_MAX:
            self.refuse(conn, ProblemType.HEADERS_TOO_LARGE)
        elif came.body > BODY_BYTES_MAX or len(ahead) + len(new or b"") > CODED_BYTES_MAX:
            self.refuse(conn, ProblemType.TOO_LARGE)
        elif has_closed(conn.sock):
            self._end(conn)  # its last bytes are here, and would wake the poller again and again
        else:
            self._await_more(conn, stay, came, here=len(new or b""))

    def _await_more(self, conn: Connection, stay: _Stay, came: Frame, *, here: int) -> None:
        stay.begun, stay.came = stay.begun or time.monotonic(), came
        stay.until = stay.begun + REQUEST_SECONDS_MAX + (came.head + came.body - came.missing) / BYTES_PER_SECOND_MIN
        if came.expects and not stay.continued:
            stay.continued = True
            conn.sock.send(_CONTINUE)
        stay.early = stay.early + 1 if here < stay.wakes_at else 0
        stay.wakes_at = here + came.missing
        if stay.early > EARLY_WAKES_MAX:
            self.refuse(conn, ProblemType.TOO_SLOW)
        else:
            wake_at(conn.sock, stay.wakes_at)

    def _throw_away(self, conn: Connection) -> None:
        try:
            if conn.sock.recv(_DRAINED_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            log.debug("client.gone", address=conn.client[0])
        self._end(conn)

    def _see_off(self, conn: Connection) -> None:
        stay = self._stays[conn]
        stay.leaving, stay.until = True, time.monotonic() + LEAVING_SECONDS_MAX
        try:
            wake_at(conn.sock, 1)
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(conn)

    def _leave(self, conn: Connection) -> None:
        wake_at(conn.sock, 1)  # or a thread's first read would wait for as many bytes
        self._poller.unregister(conn.sock)
        del self._stays[conn]

    def _end(self, conn: Connection) -> None:
        del self._stays[conn]
        try:
            self._poller.unregister(conn.sock)
        except (KeyError, OSError, ValueError):
            log.debug("client.gone", address=conn.client[0])
        self._drop(conn)
