"""Clients that mean no good, and how others are served meanwhile.

    python -m chaos.load.strangers http://127.0.0.1:8080 http://127.0.0.1:8090

The first address is the API's, the second that of its probes. Bounded in count and time; loopback alone. Ends with 1
if a probe took longer than 100 ms, an order was answered otherwise than 202, or an accepted one is not found.
"""

import http.client
import json
import resource
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlsplit

import uuid_utils

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SIEGE_SECONDS = 6.0
PAUSE_SECONDS = 1.0
"""Between two bytes of a slow client."""
RECEIVED_BYTES = 4096
LOOK_EVERY_SECONDS = 0.05
PROBE_SECONDS_MAX = 0.1
FOUND_SECONDS_MAX = 30.0
"""For the status of an accepted order to appear."""
ANSWER_SECONDS_MAX = 30.0
_ORDER = json.dumps({"user_id": "neighbour", "lines": [{"sku": "tea", "quantity": 1}]}).encode()
_SLOW_HEAD = b"POST /orders HTTP/1.1\r\nHost: t\r\nX-Slow: " + b"x" * 4000
_SLOW_BODY = b"POST /orders HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n"


class Stranger(StrEnum):
    """What such a client does."""

    IDLE = "idle"
    SLOW_HEAD = "slow header"
    SLOW_BODY = "slow body"
    LINGERING = "never closes"
    MADE_UP_ID = "made-up id"
    WAITING = "waits 10 s"
    READING_NOTHING = "reads nothing"


COUNTS = {
    Stranger.IDLE: 1000,
    Stranger.SLOW_HEAD: 200,
    Stranger.SLOW_BODY: 200,
    Stranger.LINGERING: 200,
    Stranger.MADE_UP_ID: 64,
    Stranger.WAITING: 128,
    Stranger.READING_NOTHING: 40,
}


@dataclass(frozen=True, slots=True)
class Served:
    """How others were served: the longest answers, in seconds, and what was answered otherwise than it should be."""

    probe_seconds_max: float
    order_seconds_max: float
    accepted: tuple[str, ...]
    """Ids of orders."""
    wrong: tuple[str, ...]


@contextmanager
def besieged(api: str, kind: Stranger, *, count: int) -> Iterator[None]:
    """Have so many of these clients at the API until the block ends. Raises ValueError for any host but loopback."""
    where = urlsplit(api)
    if where.hostname not in LOOPBACK:
        raise ValueError(f"{api} is not on loopback")
    ended = threading.Event()
    with ExitStack() as open_ones:
        clients = [open_ones.enter_context(_connected(api)) for _ in range(count)]
        feeding = threading.Thread(target=_feed, args=(clients, kind, ended), name="strangers")
        feeding.start()
        open_ones.callback(feeding.join)
        open_ones.callback(ended.set)
        yield


def serve_others(api: str, probes: str, *, seconds: float = SIEGE_SECONDS) -> Served:
    """Ask for probes and place orders, one after the other, for so long."""
    until = time.monotonic() + seconds
    probed, ordered, accepted, wrong = [0.0], [0.0], [], []
    while time.monotonic() < until:
        for path in ("/livez", "/readyz", "/metrics"):
            status, took, _ = _ask(probes, "GET", path)
            probed.append(took)
            if status != HTTPStatus.OK:
                wrong.append(f"{path}: {status}")
        status, took, body = _ask(api, "POST", "/orders", _ORDER)
        ordered.append(took)
        if status == HTTPStatus.ACCEPTED:
            accepted.append(str(json.loads(body)["order_id"]))
        else:
            wrong.append(f"/orders: {status}")
        time.sleep(LOOK_EVERY_SECONDS)
    return Served(max(probed), max(ordered), tuple(accepted), tuple(wrong))


def lost(api: str, accepted: Iterable[str]) -> tuple[str, ...]:
    """Return which of these orders the API does not know, after some time for its projection."""
    until = time.monotonic() + FOUND_SECONDS_MAX
    missing = tuple(accepted)
    while missing:
        missing = tuple(each for each in missing if _ask(api, "GET", f"/orders/{each}")[0] != HTTPStatus.OK)
        if time.monotonic() > until:
            break
    return missing


def _ask(base: str, method: str, path: str, body: bytes | None = None) -> tuple[int | str, float, bytes]:
    began = time.monotonic()
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=ANSWER_SECONDS_MAX)
    with closing(connection):
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__, time.monotonic() - began, b""
        return answer.status, time.monotonic() - began, content


def _connected(api: str) -> socket.socket:
    where = urlsplit(api)
    client = socket.create_connection((str(where.hostname), where.port or 80), ANSWER_SECONDS_MAX)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)  # what is not read soon fills the server's
    return client


def _feed(clients: list[socket.socket], kind: Stranger, ended: threading.Event) -> None:
    """Send what the kind sends: all at once, or a byte of it now and then."""
    whole, in_bytes = _words(kind)
    for client in clients:
        with suppress(OSError):
            client.sendall(whole())
    at = 0
    while not ended.wait(PAUSE_SECONDS):
        for client in clients:
            with suppress(OSError):
                client.send(in_bytes[at : at + 1])
        at += 1


def _words(kind: Stranger) -> tuple[Callable[[], bytes], bytes]:
    """Return what makes the first bytes of a client, and those that it sends one by one."""
    waiting = (
        "POST /orders HTTP/1.1\r\nHost: t\r\nPrefer: wait=10\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(_ORDER)}\r\n\r\n"
    )
    return {
        Stranger.IDLE: (bytes, b""),
        Stranger.SLOW_HEAD: (bytes, _SLOW_HEAD),
        Stranger.SLOW_BODY: (lambda: _SLOW_BODY, b"x" * 4000),
        Stranger.LINGERING: (lambda: b"GET /livez HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", b""),
        Stranger.MADE_UP_ID: (lambda: _get(f"/orders/{uuid_utils.uuid7()}") * 4, b""),
        Stranger.WAITING: (lambda: waiting.encode() + _ORDER, b""),
        Stranger.READING_NOTHING: (lambda: _get("/openapi.json") * 120, b""),
    }[kind]


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n".encode()


def main(api: str, probes: str) -> int:
    """Try each kind in its usual number, and print how others were served; return 1 if not as they should be."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * max(COUNTS.values()), most), most))
    harmed = 0
    sys.stdout.write(
        f"{'clients':<20}{'probes, longest':>16}{'orders':>8}{'longest':>9}{'lost':>6}  answered otherwise\n"
    )
    for kind, count in COUNTS.items():
        with besieged(api, kind, count=count):
            seen = serve_others(api, probes)
        gone = lost(api, seen.accepted)
        harmed += bool(gone or seen.wrong or seen.probe_seconds_max > PROBE_SECONDS_MAX)
        wrong = ", ".join(f"{each} ({number})" for each, number in Counter(seen.wrong).most_common(3)) or "nothing"
        sys.stdout.write(
            f"{count:>5} {kind:<14}{seen.probe_seconds_max * 1000:>13,.0f} ms{len(seen.accepted):>8,}"
            f"{seen.order_seconds_max:>7.2f} s{len(gone):>6}  {wrong}\n"
        )
        sys.stdout.flush()
    return min(harmed, 1)


if __name__ == "__main__":
    if len(sys.argv) != len(("program", "api", "probes")):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
