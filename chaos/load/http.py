"""Orders over HTTP, as good clients place them, and the history of what they were answered.

A request with a key is repeated, same key and same body, until its end is known; one without is repeated only if
nothing of it can have reached the server. What has no known end is noted as such and let be.
"""

import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audit.readers.http_history import Answer, HistoryWriter
from audit.testimony import End
from chaos.load.mix import Mix, Tally
from chaos.load.orders import Request, requests

ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 30.0
"""From a request's first attempt to its last."""
PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 1.0
MEETING_SECONDS = 1.0
"""How long a request waits for the one that goes at once with it."""

UNDECIDED = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""Answers in the range of refusals that are none."""


class HttpLoad:
    """Places the orders of a mix at `base_url` through `threads` connections, and appends to `history`.

    `base_url` may be asked for again at each connection: a restarted service may have moved. Setting `stop` ends a run
    after the requests in hand. `done` counts the requests that are through, for a caller in another thread.
    """

    def __init__(
        self,
        base_url: str | Callable[[], str],
        history: Path,
        *,
        threads: int = 8,
        patience_seconds: float = PATIENCE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.stop = threading.Event()
        self.done = 0
        self._where = base_url if callable(base_url) else lambda: base_url
        self._history = history
        self._threads = threads
        self._patience_seconds = patience_seconds
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()

    def run(self, mix: Mix) -> Tally:
        """Place all orders, or those until the stop; return once nothing is on its way."""
        began, self.done = time.monotonic(), 0
        queue = _Queue(requests(mix, run=secrets.token_hex(4)), mix.http_rate, self.stop)
        ends: Counter[End] = Counter()
        orders: set[str] = set()
        with HistoryWriter(self._history) as history, ThreadPoolExecutor(self._threads, "load") as pool:
            for work in [pool.submit(self._work, queue, history, ends, orders) for _ in range(self._threads)]:
                work.result()
        return Tally(
            orders=len(orders),
            ok=ends[End.OK],
            fail=ends[End.FAIL],
            info=ends[End.INFO],
            seconds=time.monotonic() - began,
        )

    def _work(self, queue: "_Queue", history: HistoryWriter, ends: Counter[End], orders: set[str]) -> None:
        client = _Client(self._where, seconds=self._answer_seconds)
        with closing(client), self._all_or_none():
            for wanted in queue:
                for answer in self._attempts(wanted, client, history):
                    with self._lock:
                        ends[answer.end] += 1
                        if answer.end is End.OK:
                            orders.add(answer.order_id)
                with self._lock:
                    self.done += 1

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """Have the other threads end too if this one ends by an error of our own."""
        try:
            yield
        except BaseException:
            self.stop.set()
            raise

    def _attempts(self, wanted: Request, client: "_Client", history: HistoryWriter) -> Iterator[Answer]:
        """Send until the end is known, or until a repetition might order twice; yield each answer."""
        deadline = time.monotonic() + self._patience_seconds
        pause_seconds = PAUSE_SECONDS_MIN
        while True:
            identity = history.invoke(user=wanted.user, key=wanted.key, lines=wanted.lines, body=wanted.body)
            answer = client.post(wanted)
            history.complete(identity, answer)
            yield answer
            repeatable = wanted.key is not None or not answer.sent
            if answer.end is not End.INFO or not repeatable or time.monotonic() > deadline:
                return
            if self.stop.wait(pause_seconds):
                return
            pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)


class _Queue:
    """Hands requests out, each when it is due; those of one meeting leave together."""

    def __init__(self, source: Iterator[Request], rate: float | None, stop: threading.Event) -> None:
        self._source = enumerate(source)
        self._rate = rate
        self._stop = stop
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._meetings: dict[int, threading.Barrier] = {}

    def __iter__(self) -> Iterator[Request]:
        while not self._stop.is_set():
            with self._lock:
                number, wanted = next(self._source, (0, None))
            if wanted is None:
                return
            if self._rate and (early := self._began + number / self._rate - time.monotonic()) > 0:
                self._stop.wait(early)
            if wanted.meeting is not None:
                self._meet(wanted.meeting)
            yield wanted

    def _meet(self, meeting: int) -> None:
        with self._lock:
            barrier = self._meetings.pop(meeting, None)
            if barrier is None:
                barrier = self._meetings[meeting] = threading.Barrier(2)
        with suppress(threading.BrokenBarrierError):  # the other one is late: then they do not go at once
            barrier.wait(MEETING_SECONDS)


class _Client:
    """One connection, made again whenever it broke."""

    def __init__(self, where: Callable[[], str], *, seconds: float) -> None:
        self._where = where
        self._seconds = seconds
        self._connection: http.client.HTTPConnection | None = None

    def post(self, wanted: Request) -> Answer:
        """Send the request; return how it ended, whatever happens to the connection."""
        headers = {"Content-Type": wanted.content_type}
        if wanted.key is not None:
            headers["Idempotency-Key"] = wanted.key
        try:
            connection = self._connected()
        except OSError as error:
            return Answer(End.INFO, sent=False, why=type(error).__name__)
        try:
            connection.request("POST", "/orders", wanted.body, headers)
            response = connection.getresponse()
            return understood(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Answer(End.INFO, why=type(error).__name__)

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None or self._connection.sock is None:
            connection = http.client.HTTPConnection(urlsplit(self._where()).netloc, timeout=self._seconds)
            connection.connect()
            self._connection = connection
        return self._connection


def understood(status: int, reply: bytes) -> Answer:
    """Return what an answer means: accepted, refused for good, or unknown."""
    if status in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
        order_id = _order_id(reply)
        return Answer(End.OK, status, order_id, reply) if order_id else Answer(End.INFO, status, why="no order id")
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in UNDECIDED
    return Answer(End.FAIL if refused else End.INFO, status)


def _order_id(reply: bytes) -> str:
    try:
        document: Any = json.loads(reply)
    except ValueError:
        return ""
    return str(document.get("order_id", "")) if isinstance(document, dict) else ""
