"""Stand between a process and its database: a TCP relay that can be shut. Nothing of the protocol is read."""

import select
import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65_536
LOOK_SECONDS = 0.1


class Gate:
    """One relay to a server, on a port of its own. Shut: connections are cut and new ones are closed at once."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LOOK_SECONDS)
        self._lock = threading.Lock()
        self._open = True
        self._closed = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.cut = 0
        """How many connections were cut."""

    @property
    def port(self) -> int:
        """Return the port of the relay on loopback."""
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self.shut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def shut(self) -> None:
        """Cut what is connected, let nothing in."""
        with self._lock:
            self._open = False
            pairs = list(self._pairs)
        for pair in pairs:
            for side in pair:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
            self.cut += 1

    def reopen(self) -> None:
        """Let connections in again."""
        with self._lock:
            self._open = True

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if not self._admit(client):
                client.close()

    def _admit(self, client: socket.socket) -> bool:
        with self._lock:
            if not self._open:
                return False
            try:
                server = socket.create_connection(self._server, timeout=5)
            except OSError:
                return False
            self._pairs.add((client, server))
        thread = threading.Thread(target=self._relay, args=(client, server), daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with client, server, suppress(OSError):
            while True:
                for side in select.select([client, server], [], [])[0]:
                    data = side.recv(CHUNK)
                    if not data:
                        return self._forget(client, server)
                    other[side].sendall(data)
        return self._forget(client, server)

    def _forget(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            self._pairs.discard((client, server))
