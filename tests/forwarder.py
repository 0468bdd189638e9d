"""A TCP forwarder that a test cuts and heals: what an outage of a server looks like to its clients."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from deploy.local.stack.ports import Claims
from tests.ports import free_port

CHUNK_BYTES = 64 * 1024
POSTGRES_PORT = 5432


def forward(address: str, *, cut: bool = False) -> "Forwarder":
    """Return a forwarder to host:port, or to the one in a URL."""
    at = urlsplit(address if "//" in address else f"//{address}")
    return Forwarder(str(at.hostname), at.port or POSTGRES_PORT, cut=cut)


class Forwarder:
    """Listen on a port of its own and forward to `host:port`.

    `cut` closes all connections and refuses new ones; `hold` closes them, takes new ones and forwards nothing; `freeze`
    keeps all, old and new, and forwards nothing: every byte is acknowledged and none is answered. `heal` starts afresh.
    """

    def __init__(self, host: str, port: int, *, cut: bool = False) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._holding = False
        self._flowing = threading.Event()
        self._claims = Claims()  # while it does not listen, no other process may
        self.port = free_port(self._claims)
        if not cut:
            self.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.cut()
        self._claims.release()

    def cut(self) -> None:
        self._close()
        self._holding = False

    def hold(self) -> None:
        self._close()
        self._holding = True
        self._flowing.set()
        self._listen()

    def freeze(self) -> None:
        self._holding = True
        self._flowing.clear()

    def heal(self) -> None:
        self._close()
        self._holding = False
        self._flowing.set()
        self._listen()

    def _listen(self) -> None:
        listener = self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._keep(client)
                if not self._holding:
                    threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._keep(server)
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client)

    def _keep(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.add(one)

    def _close(self) -> None:
        with self._lock:
            doomed, self._sockets = self._sockets, set()
        for one in (self._listener, *doomed):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._listener = None

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._flowing.wait()
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
