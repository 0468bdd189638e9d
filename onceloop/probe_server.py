"""Serve a few pages to supervisors, on a port and a thread of their own: a thread per page, however many ask.

A connection that has not sent its request in time is closed; where there are too many, the oldest is.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from onceloop.errors import FatalError
from onceloop.telemetry import SILENT, Observer

READ_SECONDS_MAX = 2.0
WRITE_SECONDS_MAX = 5.0
CONNECTIONS_MAX = 64
REQUEST_BYTES_MAX = 8 * 1024
WATCH_EVERY_SECONDS = 0.1
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Page]]
"""By path. `/livez` is made in the server's own thread and must not wait; each of the others has a thread."""
LIVEZ = "/livez"


def with_port(host: str, port: int) -> str:
    """Return host:port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket for `serve`; port 0 takes a free one. Raises FatalError if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise FatalError(
            f"cannot listen on {with_port(host, port)}: {error.strerror}",
            cure="end what listens there, or choose another port for them; 0 takes a free one",
        ) from error


@contextmanager
def serve(
    listener: socket.socket, pages: Pages, *, watch: Callable[[], None] = lambda: None, observer: Observer = SILENT
) -> Iterator[None]:
    """Serve until the block ends. `watch` is called ten times a second, in the server's thread."""
    loop = asyncio.new_event_loop()
    server = _Server(pages, watch, observer)
    thread = threading.Thread(target=loop.run_until_complete, args=(server.run(listener),), name="health", daemon=True)
    with closing(loop):
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(server.ended.set)
            thread.join()


class _Server:
    def __init__(self, pages: Pages, watch: Callable[[], None], observer: Observer) -> None:
        self.ended = asyncio.Event()
        self._pages = pages
        self._watch = watch
        self._observer = observer
        self._threads = {path: ThreadPoolExecutor(1, thread_name_prefix=f"health{path}") for path in pages}
        self._making: dict[str, asyncio.Future[Page]] = {}
        self._open: dict[asyncio.Task[None], None] = {}

    async def run(self, listener: socket.socket) -> None:
        async with await asyncio.start_server(self._answer, sock=listener, limit=REQUEST_BYTES_MAX):
            while not self.ended.is_set():
                self._watch()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.ended.wait(), WATCH_EVERY_SECONDS)
            for task in self._open:
                task.cancel()  # from Python 3.12 on, the end of a server waits for its connections
            await asyncio.gather(*self._open, return_exceptions=True)
        for thread in self._threads.values():
            thread.shutdown(wait=False)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type alone: this is one
        self._open[task] = None
        if len(self._open) > CONNECTIONS_MAX:
            next(iter(self._open)).cancel()
        try:
            with suppress(
                OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError
            ):  # no client waits any more
                async with asyncio.timeout(READ_SECONDS_MAX):
                    head = await reader.readuntil(_END_OF_HEAD)
                page = await self._page(head)
                async with asyncio.timeout(WRITE_SECONDS_MAX):
                    writer.write(page)
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            writer.transport.abort()  # if it is open still, its client did not read in time
            with suppress(OSError):
                await writer.wait_closed()
            self._open.pop(task, None)

    async def _page(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
        if method not in {b"GET", b"HEAD"}:
            page = Page(HTTPStatus.METHOD_NOT_ALLOWED, b"GET, HEAD\n")
        elif (make := self._pages.get(path)) is None:
            page = Page(HTTPStatus.NOT_FOUND, f"{', '.join(self._pages)}\n".encode())
        elif path == LIVEZ:
            page = make()
        else:
            page = await self._made(path, make)
        lines = (
            f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(page.body)}",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + (b"" if method == b"HEAD" else page.body)

    async def _made(self, path: str, make: Callable[[], Page]) -> Page:
        """Return the page that is being made just now, or have it made: however many ask, none waits for two."""
        if path not in self._making or self._making[path].done():
            self._making[path] = asyncio.get_running_loop().run_in_executor(self._threads[path], make)
        try:
            return await asyncio.shield(self._making[path])
        except Exception as error:  # noqa: BLE001 - a page that fails is a page that says so
            self._observer.log("error", "probe.failed", path=path, exc_info=error)
            return Page(HTTPStatus.INTERNAL_SERVER_ERROR, b"failed\n")
