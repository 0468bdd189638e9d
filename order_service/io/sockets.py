"""What the kernel knows of a connection, without reading from it or waiting for it."""

import select
import socket


def peek(sock: socket.socket, size: int) -> bytes | None:
    """Return what has come and is not read yet; None if nothing has, nothing at all if the client has closed."""
    try:
        return sock.recv(size, socket.MSG_PEEK)
    except BlockingIOError:
        return None


def wake_at(sock: socket.socket, size: int) -> None:
    """Count the socket as readable once so many bytes have come, or once the client has closed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def has_closed(sock: socket.socket) -> bool:
    """Return True if the client sends no more. Only Linux says so while bytes are left to read."""
    return _is(getattr(select, "POLLRDHUP", 0), sock)


def takes_answers(sock: socket.socket) -> bool:
    """Return False if the kernel still holds so many answers that the next one would hold a thread."""
    return _is(select.POLLOUT, sock)


def _is(event: int, sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, event)
    return bool(poller.poll(0))
