"""Ask a process of this machine: does its port answer, what does it say by HTTP. Never by way of a proxy."""

import http.client
import socket
from contextlib import closing, suppress

LOOPBACK = "127.0.0.1"
_CONNECT_SECONDS_MAX = 0.5
_OK = 200


def answers(port: int, *, address: str = LOOPBACK) -> bool:
    """Return whether something accepts connections there."""
    with suppress(OSError), socket.create_connection((address, port), timeout=_CONNECT_SECONDS_MAX):
        return True
    return False


def get(port: int, path: str, *, timeout_seconds: float = 1.0) -> str | None:
    """Return the body of a 200; None for any other answer, and for none."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_seconds)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status == _OK:
            return response.read().decode("utf-8", errors="replace")
    return None
