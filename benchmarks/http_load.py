"""Place orders over HTTP and write down when: `python -m benchmarks.http_load '{...}' FILE`, a process of its own.

Open loop: requests are due at a fixed rate whether or not the ones before are answered, and a time is counted from when
a request was due, so that a stall is not hidden. Without a rate: closed loop, each connection asks again once answered.
One order in `follow_every` is asked for until it has an outcome, as a client without `Prefer: wait` would.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from itertools import count
from pathlib import Path

FOLLOW_SECONDS = 0.01
FOLLOW_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 30.0
CONNECTIONS_MAX = 256
ACCEPTED = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask for. `path` and `orders`: where to, and how many times; `rate` a second, or 0 for a closed loop."""

    port: int
    orders: int
    rate: float = 0.0
    connections: int = 32
    path: str = "/orders"
    follow_every: int = 0
    skus: tuple[str, ...] = ("tea",)
    seed: int = 1

    def text(self) -> str:
        """Return it as one argument of a command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it was due and answered, in seconds since the epoch; `decided_at` of one that was followed."""

    status: int
    due_at: float
    answered_at: float
    order_id: str
    decided_at: float | None


def read(file: Path) -> list[Answer]:
    """Return what a load wrote down."""
    return [Answer(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


class _Connection(asyncio.Protocol):
    """A connection that is kept alive; one request at a time."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker: create_connection's word
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
        if len(rest) >= length:
            self._received = b""
            answer, self._answer = self._answer, None
            answer.set_result((int(head[9:12]), rest))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("closed before it answered"))

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body. Raises OSError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, ANSWER_SECONDS_MAX)


class _Client:
    """Requests over a pool of connections."""

    def __init__(self, load: Load, answers: list[Answer]) -> None:
        self._load, self._answers = load, answers
        self._free: deque[_Connection] = deque()
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._chance = random.Random(load.seed)  # noqa: S311 - repeatable on purpose
        self._followed = count(1)

    def close(self) -> None:
        """Close all connections, which are free by now."""
        while self._free:
            self._free.pop().close()

    async def place(self, due_at: float) -> None:
        """Place one order, follow it if it is its turn, and note what came of it."""
        status, body = await self._ask(self._order())
        answered_at = time.time()
        order_id = str(json.loads(body)["order_id"]) if status == ACCEPTED and body else ""
        decided_at = None
        if order_id and self._load.follow_every and next(self._followed) % self._load.follow_every == 0:
            decided_at = await self._follow(order_id)
        self._answers.append(Answer(status, due_at, answered_at, order_id, decided_at))

    async def _follow(self, order_id: str) -> float | None:
        request = f"GET /orders/{order_id} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        until = time.time() + FOLLOW_SECONDS_MAX
        while time.time() < until:
            _, body = await self._ask(request)
            if body and json.loads(body).get("decided_at") is not None:
                return time.time()
            await asyncio.sleep(FOLLOW_SECONDS)
        return None

    async def _ask(self, request: bytes) -> tuple[int, bytes]:
        """Return status and body; 0 and nothing where no answer came."""
        async with self._room:
            try:
                connection = self._free.pop() if self._free else await self._connect()
            except OSError:
                return 0, b""
            try:
                found = await connection.ask(request)
            except OSError:  # TimeoutError is one
                connection.close()
                return 0, b""
            self._free.append(connection)
            return found

    async def _connect(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self._load.port)
        return connection

    def _order(self) -> bytes:
        skus = self._chance.sample(self._load.skus, min(len(self._load.skus), self._chance.randint(1, 3)))
        order = {
            "user_id": f"user-{self._chance.randrange(5000)}",
            "lines": [{"sku": sku, "quantity": self._chance.randint(1, 3)} for sku in skus],
        }
        body = json.dumps(order).encode()
        return (
            f"POST {self._load.path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body


async def _open(load: Load, client: _Client) -> None:
    began = time.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(load.orders):
            due_at = began + number / load.rate
            await asyncio.sleep(max(0.0, due_at - time.time()))
            tasks.create_task(client.place(due_at))


async def _closed(load: Load, client: _Client) -> None:
    left = iter(range(load.orders))

    async def work() -> None:
        for _ in left:
            await client.place(time.time())

    async with asyncio.TaskGroup() as tasks:
        for _ in range(load.connections):
            tasks.create_task(work())


def main(argument: str, file: str) -> None:
    """Do the load that the argument describes."""
    fields = json.loads(argument)
    load = Load(**{**fields, "skus": tuple(fields["skus"])})
    answers: list[Answer] = []
    loop = _open if load.rate else _closed

    async def run() -> None:
        with closing(_Client(load, answers)) as client:
            await loop(load, client)
        await asyncio.sleep(0)  # what is closed is closed by the loop

    asyncio.run(run())
    lines = [json.dumps(astuple(each)) for each in answers]
    Path(file).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
